//! Files of purchases: each row ends as booked, booked before or rejected, and what is corrected and sent again ends as if it had been right at first.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Up, loyalty, postgres, rulebook, run};

const HEAD: &str = "purchase_id,account_id,occurred_at,currency,channel,store,line_id,sku,category,quantity,unit_price,discount,tax\n";
const RETAIL: &str = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,CustomerID,Country\n";

/// A book with a program, and a file that is imported into it.
struct Book {
    data: TempDir,
}

impl Book {
    async fn new() -> Self {
        Self::under(rulebook()).await
    }

    async fn under(rulebook: Value) -> Self {
        let data = tempfile::tempdir().unwrap();
        let rules = data.path().join("rules.json");
        std::fs::write(&rules, rulebook.to_string()).unwrap();
        run(&["program", "publish", rules.to_str().unwrap()], data.path()).await;
        Self { data }
    }

    fn file(&self) -> PathBuf {
        self.data.path().join("purchases")
    }

    /// Imports `bytes`; the exit code and what was printed.
    async fn import(&self, format: &str, bytes: &[u8], more: &[&str]) -> (i32, String) {
        std::fs::write(self.file(), bytes).unwrap();
        let file = self.file();
        let arguments = [&["import", file.to_str().unwrap(), "--program", "shop", "--format", format, "--drive-clock"], more].concat();
        let output = loyalty(&arguments, self.data.path()).output().await.unwrap();
        (output.status.code().unwrap(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    }

    /// Line, field and reason of each rejected row.
    fn rejects(&self) -> Vec<(u64, String, String)> {
        let mut reader = csv::Reader::from_path(format!("{}.rejected.csv", self.file().display())).unwrap();
        assert_eq!(reader.headers().unwrap(), &["line", "field", "reason"][..]);
        reader.deserialize().map(Result::unwrap).collect()
    }

    /// What the read models have of every purchase that `sql` asks for, as text, once there are `count`.
    async fn ask(&self, sql: &str, count: usize) -> Vec<String> {
        let up = Up::start(self.data.path(), &[]).await;
        let client = postgres(self.data.path()).await;
        let mut rows = Vec::new();
        for _ in 0..300 {
            rows = client.query(sql, &[]).await.unwrap();
            if rows.len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        up.stop().await;
        assert_eq!(rows.len(), count, "{sql}");
        rows.iter().map(|row| row.get(0)).collect()
    }
}

const PURCHASES: &str = "SELECT (account, purchase_id, occurred_at, trim_scale(spend), trim_scale(returned), (SELECT array_agg((line_id, category, trim_scale(spend)) ORDER BY line_id)
    FROM clv.line l WHERE (l.account, l.purchase_id) = (p.account, p.purchase_id)))::text FROM clv.purchase p ORDER BY account, purchase_id";

/// More rows than the 64 KiB by which a file was once told from another.
fn filler() -> String {
    (0..800).map(|n| format!("f{n},m{},2010-01-01T00:00:00Z,GBP,web,,1,A,c,1,{n}.00,0,0\n", n % 50)).collect()
}

#[tokio::test]
async fn a_corrected_file_ends_as_if_it_had_been_correct_at_first() {
    let with = |name: &[u8], price: &str| {
        let mut bytes = format!("{HEAD}{}", filler()).into_bytes();
        bytes.extend_from_slice(b"p1,a1,2010-02-01T10:00:00Z,GBP,web,,1,A,x,1,50.00,0,0\np1,a1,2010-02-01T10:00:00Z,GBP,web,,2,B,");
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(
            b",1,50.00,0,0\n1001,alice,2010-02-01T10:00:00Z,GBP,web,,1,A,c,1,50.00,0,0\n1001,bob,2010-02-01T10:00:00Z,GBP,web,,1,A,c,1,70.00,0,0\n",
        );
        let apart = |line| format!("p3,a3,2010-02-01T10:00:00Z,GBP,web,,{line},A,c,1,5.00,0,0\n");
        // Spreadsheets end with rows that say nothing.
        bytes.extend_from_slice(format!("{}p2,a2,2010-02-01T10:00:00Z,GBP,web,,1,A,c,1,{price},0,0\n{},,,,,,,,,,,,\n", apart(1), apart(2)).as_bytes());
        bytes
    };
    let book = Book::new().await;
    let (code, said) = book.import("purchases-csv", &with(b"Caf\xe9", "12,05"), &[]).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("807 rows: 804 booked, 0 booked before, 3 rejected; 803 commands booked"), "{said}");
    assert!(said.contains("3 of 807 rows were rejected") && said.contains("purchases.rejected.csv"), "{said}");
    let rejects = book.rejects();
    let fields: Vec<_> = rejects.iter().map(|(line, field, _)| (*line, field.as_str())).collect();
    assert_eq!(fields, [(802, ""), (803, "category"), (807, "unit_price")], "{rejects:?}");
    assert!(rejects[0].2.contains("line 803") && rejects[1].2.contains("--encoding") && rejects[2].2.contains("12,05"), "{rejects:?}");

    let right = with("Café".as_bytes(), "12.05");
    let (code, said) = book.import("purchases-csv", &right, &[]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("807 rows: 3 booked, 804 booked before, 0 rejected; 2 commands booked"), "{said}");
    assert!(book.rejects().is_empty());
    let (code, said) = book.import("purchases-csv", &right, &[]).await;
    assert!(code == 0 && said.contains("0 booked, 807 booked before, 0 rejected; 0 commands booked"), "{said}");

    let at_first = Book::new().await;
    assert_eq!(at_first.import("purchases-csv", &right, &[]).await.0, 0);
    let purchases = at_first.ask(PURCHASES, 805).await;
    assert!(purchases.iter().any(|purchase| purchase.starts_with("(a3,p3,") && purchase.contains(",10,0,")), "rows that are apart are one purchase");
    assert_eq!(book.ask(PURCHASES, 805).await, purchases);
    assert!(run(&["verify"], book.data.path()).await.contains("book verified"));
}

#[tokio::test]
async fn a_file_is_read_in_the_encoding_that_it_is_written_in() {
    let book = Book::new().await;
    let line = r#""lines": [{"line_id": "1", "sku": "A", "quantity": 1, "unit_price": "50.00"}]"#;
    let json = |id: &str| format!(r#"{{"purchase_id": "{id}", "account_id": "a1", "occurred_at": "2010-01-01T00:00:00Z", "currency": "GBP", {line}}}"#);
    let (code, said) = book.import("purchases-jsonl", format!("\u{feff}{}\n{}\n", json("j1"), json("j 2")).as_bytes(), &[]).await;
    assert!(code == 2 && said.contains("2 rows: 1 booked, 0 booked before, 1 rejected"), "{said}");
    assert_eq!(book.rejects()[0].1, "purchase_id");
    let row = |id: &str, name: &[u8]| [HEAD.as_bytes(), format!("{id},a1,2010-01-01T00:00:00Z,GBP,web,,1,A,").as_bytes(), name, b",1,50.00,0,0\n"].concat();
    assert_eq!(book.import("purchases-csv", &[b"\xef\xbb\xbf", &row("c0", b"plain")[..]].concat(), &[]).await.0, 0);
    assert_eq!(book.import("purchases-csv", &row("c1", b"Caf\xe9"), &["--encoding", "windows-1252"]).await.0, 0);
    assert_eq!(book.import("purchases-csv", &row("c2", b"S\xfd\xdea"), &["--encoding", "windows-1258"]).await.0, 0);
    let utf_16: Vec<u8> = format!("\u{feff}{HEAD}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (code, said) = book.import("purchases-csv", &utf_16, &[]).await;
    assert!(code == 1 && said.contains("UTF-16"), "{said}");
    let purchases = book.ask(PURCHASES, 4).await;
    assert!(purchases[1].contains("Café") && purchases[2].contains("Sữa"), "{purchases:?}");
}

#[tokio::test]
async fn cancellations_have_prices_of_their_own() {
    let book = Book::new().await;
    let row = |invoice: &str, sku: &str, quantity: &str, at: &str, price: &str, customer: &str| {
        format!("{invoice},{sku},\"GIFT, RED\",{quantity},{at},{price},{customer},United Kingdom\n")
    };
    let at = "2010-12-01 10:00:00";
    let file = |price: &str| {
        [
            RETAIL.to_owned(),
            row("500001", "84347", "9360", at, "1.69", "15838.0"),
            row("500002", "A", "4", at, "2.50", "17.0"),
            row("500001", "B", "1", at, "3.00", "15838.0"),
            row("500001", "B", "1", "2010-12-01 10:01:00", "3.00", "15838.0"),
            row("500003", "A", "4", "2010-12-01 11:00:00", price, "18.0"),
            row("C500004", "84347", "-9360", "2010-12-02 14:23:00", "0.03", "15838.0"),
            row("C500005", "A", "-3", "2010-12-02 14:24:00", "2.50", "17.0"),
            row("C500006", "A", "-2", "2010-12-02 14:25:00", "2.50", "17.0"),
            row("C500007", "A", "-1", "2010-12-02 14:26:00", "9.99", "17.0"),
            row("C500008", "A", "-1", "2010-12-02 14:27:00", "2.50", "18.0"),
            row("500009", "FREE", "1", "2010-12-03 10:00:00", "0", "17.0"),
            row("500010", "B", "1", "2010-12-03 10:00:00", "1.00", ""),
        ]
        .concat()
    };
    let (code, said) = book.import("online-retail", file("x").as_bytes(), &[]).await;
    assert_eq!(code, 2, "{said}");
    let rejects = book.rejects();
    let fields: Vec<_> = rejects.iter().map(|(line, field, _)| (*line, field.as_str())).collect();
    assert_eq!(fields, [(6, "Price"), (9, "Quantity"), (10, "Quantity"), (11, ""), (12, "Price"), (13, "CustomerID")], "{rejects:?}");
    assert!(rejects[1].2.contains("hold only 1 of the 2"), "booked whole or not at all: {rejects:?}");
    assert!(rejects[3].2.contains("line 6"), "it could be matched to another purchase than it belongs to: {rejects:?}");

    let (_, said) = book.import("online-retail", file("2.50").as_bytes(), &[]).await;
    assert!(said.contains("12 rows: 2 booked, 6 booked before, 4 rejected; 2 commands booked"), "{said}");
    let purchases = book
        .ask("SELECT concat_ws(' ', account, purchase_id, trim_scale(spend), trim_scale(returned)) FROM clv.purchase ORDER BY account, purchase_id", 4)
        .await;
    assert_eq!(purchases, ["15838 500001 15821.4 280.8", "15838 500001.2 3 0", "17 500002 10 7.5", "18 500003 10 2.5"]);
    // A rulebook may let refunds that match no purchase lower what is spent: then each customer's is the file's.
    let mut rules = rulebook();
    rules["return"] = json!({"unmatched": "reduce_spend"});
    let reduced = Book::under(rules).await;
    let (code, said) = reduced.import("online-retail", file("2.50").as_bytes(), &[]).await;
    assert!(code == 2 && said.contains("12 rows: 10 booked, 0 booked before, 2 rejected; 10 commands booked"), "{said}");
    let (_, said) = reduced.import("online-retail", file("2.50").as_bytes(), &[]).await;
    assert!(said.contains("12 rows: 0 booked, 10 booked before, 2 rejected; 0 commands booked"), "{said}");
    let refunds = reduced.ask("SELECT concat_ws(' ', account, refund_id, trim_scale(amount)) FROM clv.unmatched_refund ORDER BY refund_id", 2).await;
    assert_eq!(refunds, ["17 C500006-1.2 2.5", "17 C500007-1.1 9.99"]);
    let spend = reduced.ask("SELECT concat_ws(' ', account, trim_scale(spend)) FROM clv.member ORDER BY account", 3).await;
    assert_eq!(spend, ["15838 15543.6", "17 -12.49", "18 7.5"]);
    assert!(run(&["verify"], reduced.data.path()).await.contains("book verified"));
    // A row that was booked and says another thing now is told, not passed over.
    for changed in [file("2.50").replace("-9360", "-9000"), file("2.50").replace("14:24:00,2.50", "14:24:00,2.49")] {
        let (_, said) = book.import("online-retail", changed.as_bytes(), &[]).await;
        assert!(said.contains("7 booked before, 5 rejected"), "{said}");
        assert!(book.rejects()[0].2.contains("booked before with another"), "{:?}", book.rejects());
    }
}

#[tokio::test]
async fn a_part_of_an_invoice_is_not_booked_where_the_part_before_it_is_not_as_the_book_has_it() {
    let book = Book::new().await;
    let row = |invoice: &str, minute: &str, price: &str| format!("{invoice},A,GIFT,1,2010-12-01 10:{minute}:00,{price},17.0,United Kingdom\n");
    let file = |minute: &str, price: &str| {
        let rows = [row("600001", "00", "2.00"), row("600001", minute, "3.00"), row("600002", "00", price), row("600002", "01", "3.00")];
        [&[RETAIL.to_owned()], &rows[..]].concat().concat()
    };
    // Release 0.1 booked rows that are side by side as one purchase, with the time of the first.
    let (_, said) = book.import("online-retail", file("00", "0").as_bytes(), &[]).await;
    assert!(said.contains("4 rows: 3 booked, 0 booked before, 1 rejected; 2 commands booked"), "{said}");
    // The second row of one invoice and of the other are in the book: the first as part of 600001, the second as 600002.
    let (_, said) = book.import("online-retail", file("01", "2.00").as_bytes(), &[]).await;
    assert!(said.contains("4 rows: 0 booked, 0 booked before, 4 rejected; 0 commands booked"), "{said}");
    let rejects = book.rejects();
    assert_eq!(rejects.iter().map(|(line, field, _)| (*line, field.as_str())).collect::<Vec<_>>(), [(2, "Invoice"), (3, ""), (4, "Invoice"), (5, "")]);
    assert!(rejects[1].2.contains("part 600001 was refused") && rejects[3].2.contains("part 600002 was refused"), "{rejects:?}");
    let spent = book.ask("SELECT concat_ws(' ', purchase_id, trim_scale(spend)) FROM clv.purchase ORDER BY purchase_id", 2).await;
    assert_eq!(spent, ["600001 5", "600002 3"], "nothing twice");
}

/// Rules by which a refund that names no purchase lowers what is spent.
fn reducing() -> Value {
    let mut rules = rulebook();
    rules["return"] = json!({"unmatched": "reduce_spend"});
    rules
}

/// A row of the Online Retail format, of a day in December 2010.
fn retail(invoice: &str, quantity: &str, day: u32, price: &str, customer: &str) -> String {
    format!("{invoice},A,GIFT,{quantity},2010-12-{day:02} 10:00:00,{price},{customer},United Kingdom\n")
}

fn retail_file(rows: &[String]) -> String {
    format!("{RETAIL}{}", rows.concat())
}

fn fields(rejects: &[(u64, String, String)]) -> Vec<(u64, &str)> {
    rejects.iter().map(|(line, field, _)| (*line, field.as_str())).collect()
}

#[tokio::test]
async fn a_cancellation_of_which_a_part_is_refused_is_not_booked() {
    let book = Book::under(reducing()).await;
    let row = |invoice: &str, quantity: &str, day: u32| retail(invoice, quantity, day, "400000000000", "17.0");
    // Of five, two were bought; the other three would be refunded with more money than an amount may be.
    let file = retail_file(&[row("600001", "2", 1), row("C600002", "-5", 2), row("C600003", "-2", 3)]);
    let (_, said) = book.import("online-retail", file.as_bytes(), &[]).await;
    assert!(said.contains("3 rows: 2 booked, 0 booked before, 1 rejected; 2 commands booked"), "{said}");
    let rejects = book.rejects();
    assert!(fields(&rejects) == [(3, "Quantity")] && rejects[0].2.contains("1200000000000"), "{rejects:?}");
    let (_, said) = book.import("online-retail", file.as_bytes(), &[]).await;
    assert!(said.contains("3 rows: 0 booked, 2 booked before, 1 rejected; 0 commands booked"), "{said}");
}

#[tokio::test]
async fn the_money_of_a_cancellation_is_rounded_half_up_as_that_of_a_purchase_is() {
    let book = Book::under(reducing()).await;
    let file = retail_file(&[
        retail("600001", "2", 1, "2.505", "17.0"),
        // Two are given back, and one is refunded: 7.52 for all three.
        retail("C600002", "-3", 2, "2.505", "17.0"),
        retail("C600003", "-1", 3, "1.115", "17.0"),
        retail("600004", "2", 1, "2.00", "18.0"),
        retail("C600005", "-1", 2, "1.115", "18.0"),
        // It was charged with 1.11, less than its price.
        retail("600006", "1", 1, "1.114", "19.0"),
        retail("C600007", "-1", 2, "1.114", "19.0"),
    ]);
    let (code, said) = book.import("online-retail", file.as_bytes(), &[]).await;
    assert!(code == 0 && said.contains("7 rows: 7 booked, 0 booked before, 0 rejected; 8 commands booked"), "{said}");
    let (code, said) = book.import("online-retail", file.as_bytes(), &[]).await;
    assert!(code == 0 && said.contains("7 rows: 0 booked, 7 booked before, 0 rejected; 0 commands booked"), "{said}");
    let refunds = book.ask("SELECT concat_ws(' ', refund_id, trim_scale(amount)) FROM clv.unmatched_refund ORDER BY refund_id", 2).await;
    assert_eq!(refunds, ["C600002-1.2 2.51", "C600003-1.1 1.12"]);
    let returned = book.ask("SELECT concat_ws(' ', purchase_id, trim_scale(returned)) FROM clv.purchase ORDER BY purchase_id", 3).await;
    assert_eq!(returned, ["600001 5.01", "600004 1.12", "600006 1.11"]);
}

#[tokio::test]
async fn an_import_does_not_overwrite_what_it_reads() {
    let book = Book::new().await;
    let row = |price: &str| format!("{HEAD}p1,a1,2010-01-01T00:00:00Z,GBP,web,,1,A,c,1,{price},0,0\n");
    let [symbolic, hard, other] = ["symbolic", "hard", "other"].map(|name| book.data.path().join(name));
    std::fs::write(book.file(), row("x")).unwrap();
    std::os::unix::fs::symlink(book.file(), &symbolic).unwrap();
    std::fs::hard_link(book.file(), &hard).unwrap();
    for rejected in [&book.file(), &symbolic, &hard] {
        let (code, said) = book.import("purchases-csv", row("x").as_bytes(), &["--rejected", rejected.to_str().unwrap()]).await;
        assert!(code == 1 && said.contains("FILE and --rejected are the same file"), "{said}");
        assert_eq!(std::fs::read_to_string(book.file()).unwrap(), row("x"), "it is as it was");
    }
    // A run that fails leaves the rejected rows of the one before, and no file where there was none.
    let (code, said) = book.import("purchases-csv", row("x").as_bytes(), &[]).await;
    assert!(code == 2 && book.rejects().len() == 1, "{said}");
    assert_eq!(book.import("purchases-csv", b"no;header\n", &[]).await.0, 1);
    assert_eq!(book.rejects().len(), 1);
    assert_eq!(book.import("purchases-csv", b"no;header\n", &["--rejected", other.to_str().unwrap()]).await.0, 1);
    assert!(!other.exists());
    let (code, said) = book.import("purchases-csv", row("5.00").as_bytes(), &[]).await;
    assert!(code == 0 && book.rejects().is_empty(), "{said}");
}

#[tokio::test]
async fn a_row_whose_purchase_can_not_be_told_holds_back_all_that_it_may_belong_to() {
    let book = Book::new().await;
    let row = |purchase: &str, account: &str, line: u32| format!("{purchase},{account},2010-02-01T10:00:00Z,GBP,web,,{line},A,c,1,5.00,0,0\n");
    // The last row, how many are booked beside it, and why its first is not.
    let cases = [
        (row("", "a0", 2), 1, "all of this account wait"),
        (row("p1 ", "a1", 2), 1, "all of this account wait"),
        ("p2\n".to_owned(), 2, "belongs to a purchase with a rejected row: line 5"),
        (row("", "a 3", 2), 0, "all of the file wait"),
        ("p 4\n".to_owned(), 0, "all of the file wait"),
    ];
    for (n, (bad, booked, why)) in cases.into_iter().enumerate() {
        let (purchase, account) = (format!("p{n}"), format!("a{n}"));
        let rows = [row(&purchase, &account, 1), row(&format!("q{n}"), &format!("b{n}"), 1), row(&format!("r{n}"), &account, 1)].concat();
        let (code, said) = book.import("purchases-csv", format!("{HEAD}{rows}{bad}").as_bytes(), &[]).await;
        let counts = format!("4 rows: {booked} booked, 0 booked before, {} rejected", 4 - booked);
        assert!(code == 2 && said.contains(&counts), "{bad}: {said}");
        let rejects = book.rejects();
        assert!(rejects[0].0 == 2 && rejects[0].2.contains(why) && rejects[0].2.contains("line 5"), "{bad}: {rejects:?}");
        let (code, said) = book.import("purchases-csv", format!("{HEAD}{rows}{}", row(&purchase, &account, 2)).as_bytes(), &[]).await;
        let counts = format!("4 rows: {} booked, {booked} booked before, 0 rejected", 4 - booked);
        assert!(code == 0 && said.contains(&counts), "{bad}: {said}");
    }
    for (n, invoice) in ["", "1 "].into_iter().enumerate() {
        let customer = format!("5{n}.0");
        let file = |last: &str| {
            let rows = [retail(&format!("60{n}"), "1", 1, "2.00", &customer), retail(&format!("61{n}"), "1", 1, "2.00", "60.0")];
            retail_file(&[&rows[..], &[retail(last, "1", 1, "3.00", &customer)]].concat())
        };
        let (_, said) = book.import("online-retail", file(invoice).as_bytes(), &[]).await;
        assert!(said.contains("3 rows: 1 booked, 0 booked before, 2 rejected"), "{invoice:?}: {said}");
        let (code, said) = book.import("online-retail", file(&format!("60{n}")).as_bytes(), &[]).await;
        assert!(code == 0 && said.contains("3 rows: 2 booked, 1 booked before, 0 rejected"), "{invoice:?}: {said}");
    }
}

#[tokio::test]
async fn cancellations_wait_for_a_purchase_that_is_not_booked() {
    let book = Book::under(reducing()).await;
    // A customer that can't be read may be any.
    let file = |customer: &str| retail_file(&[retail("600001", "3", 1, "10.00", customer), retail("C600002", "-1", 2, "10.00", "77.0")]);
    let (_, said) = book.import("online-retail", file("7 7").as_bytes(), &[]).await;
    assert!(said.contains("2 rows: 0 booked, 0 booked before, 2 rejected"), "{said}");
    let rejects = book.rejects();
    assert!(fields(&rejects) == [(2, "CustomerID"), (3, "")] && rejects[1].2.contains("line 2"), "{rejects:?}");
    let (code, said) = book.import("online-retail", file("77.0").as_bytes(), &[]).await;
    assert!(code == 0 && said.contains("2 rows: 2 booked"), "{said}");
    // What was booked is told as such, though it would wait now.
    let (_, said) = book.import("online-retail", file("7 7").as_bytes(), &[]).await;
    assert!(said.contains("2 rows: 0 booked, 1 booked before, 1 rejected"), "{said}");

    // Who has no name may be the customer of a cancellation that nothing else explains.
    let file = |customer: &str| {
        retail_file(&[
            retail("600003", "3", 1, "10.00", customer),
            retail("600005", "1", 1, "10.00", "80.0"),
            retail("C600004", "-1", 2, "10.00", "79.0"),
            retail("C600006", "-1", 2, "10.00", "80.0"),
            retail("C600007", "-1", 2, "7.00", "79.0"),
        ])
    };
    let (_, said) = book.import("online-retail", file("").as_bytes(), &[]).await;
    assert!(said.contains("5 rows: 3 booked, 0 booked before, 2 rejected"), "{said}");
    let rejects = book.rejects();
    assert!(fields(&rejects) == [(2, "CustomerID"), (4, "Quantity")] && rejects[1].2.contains("waits for line 2"), "{rejects:?}");
    let (code, said) = book.import("online-retail", file("79.0").as_bytes(), &[]).await;
    assert!(code == 0 && said.contains("5 rows: 2 booked, 3 booked before, 0 rejected"), "{said}");
    let refunds = book.ask("SELECT concat_ws(' ', refund_id, trim_scale(amount)) FROM clv.unmatched_refund ORDER BY refund_id", 1).await;
    assert_eq!(refunds, ["C600007-1.1 7"], "the other two are of purchases");
}

#[tokio::test]
async fn cancellations_wait_for_a_purchase_that_the_ledger_refused() {
    let book = Book::under(reducing()).await;
    let freeze = async |verb: &str| {
        let up = Up::start(book.data.path(), &[]).await;
        let opened = up.post("/v1/programs/shop/accounts", json!({"account_id": "81"})).await;
        let (status, body) = up.post(&format!("/v1/programs/shop/accounts/81/{verb}"), json!({"reason_code": "check", "note": ""})).await;
        assert!(status.is_success(), "{opened:?} {body}");
        up.stop().await;
    };
    freeze("freeze").await;
    let file = retail_file(&[
        retail("600001", "3", 1, "10.00", "81.0"),
        retail("600002", "3", 1, "10.00", "82.0"),
        retail("C600003", "-1", 2, "10.00", "81.0"),
        retail("C600004", "-1", 2, "10.00", "82.0"),
    ]);
    let (_, said) = book.import("online-retail", file.as_bytes(), &[]).await;
    assert!(said.contains("4 rows: 2 booked, 0 booked before, 2 rejected"), "{said}");
    let rejects = book.rejects();
    assert!(fields(&rejects) == [(2, "CustomerID"), (4, "")] && rejects[1].2.contains("was refused: line 2"), "{rejects:?}");
    freeze("unfreeze").await;
    let (code, said) = book.import("online-retail", file.as_bytes(), &[]).await;
    assert!(code == 0 && said.contains("4 rows: 2 booked, 2 booked before, 0 rejected"), "{said}");
    let returned = book.ask("SELECT concat_ws(' ', purchase_id, trim_scale(returned)) FROM clv.purchase ORDER BY purchase_id", 2).await;
    assert_eq!(returned, ["600001 10", "600002 10"]);
}

#[tokio::test]
async fn a_row_with_the_wrong_sign_holds_back_its_invoice() {
    let book = Book::new().await;
    let file = |quantity: &str, price: &str| {
        let rows = [retail("600001", "1", 1, "2.00", "17.0"), retail("600001", quantity, 1, price, "17.0"), retail("600002", "1", 1, "2.00", "18.0")];
        retail_file(&rows)
    };
    for (quantity, price, field) in [("-1", "3.00", "Quantity"), ("0", "3.00", "Quantity"), ("1", "-3.00", "Price")] {
        let (_, said) = book.import("online-retail", file(quantity, price).as_bytes(), &[]).await;
        assert!(said.contains("3 rows:") && said.contains("2 rejected"), "{said}");
        assert_eq!(fields(&book.rejects()), [(2, ""), (3, field)]);
    }
    let (code, said) = book.import("online-retail", file("1", "3.00").as_bytes(), &[]).await;
    assert!(code == 0 && said.contains("3 rows: 2 booked, 1 booked before, 0 rejected"), "{said}");
}

#[tokio::test]
async fn rows_count_in_the_order_of_their_times() {
    let book = Book::under(reducing()).await;
    let file = retail_file(&[
        retail("C600002", "-1", 2, "10.00", "17.0"),
        retail("C600003", "-1", 3, "10.00", "17.0"),
        retail("600001", "1", 1, "10.00", "17.0"),
        // Its first part is of another day than its second; they are numbered as they stand in the file.
        retail("600004", "1", 5, "1.00", "18.0"),
        retail("600004", "1", 4, "2.00", "18.0"),
    ]);
    let (code, said) = book.import("online-retail", file.as_bytes(), &[]).await;
    assert!(code == 0 && said.contains("5 rows: 5 booked, 0 booked before, 0 rejected; 5 commands booked"), "{said}");
    let refunds = book.ask("SELECT concat_ws(' ', refund_id, trim_scale(amount)) FROM clv.unmatched_refund ORDER BY refund_id", 1).await;
    assert_eq!(refunds, ["C600003-1.1 10"], "the first cancellation is of the purchase");
    let purchases = book.ask("SELECT concat_ws(' ', purchase_id, trim_scale(spend), trim_scale(returned)) FROM clv.purchase ORDER BY purchase_id", 3).await;
    assert_eq!(purchases, ["600001 10 10", "600004 1 0", "600004.2 2 0"]);
}

#[tokio::test]
async fn a_rejected_row_names_the_field_that_is_wrong() {
    let book = Book::new().await;
    let row = |purchase: &str, line: u32, rest: &str| format!("{purchase},a1,2010-02-01T10:00:00Z,GBP,{line},A,{rest}\n");
    let rows = [
        row("p1", 1, "1,5.00,5"),
        row("p1", 2, "1,5.00,"),
        row("p2", 1, "1,5.00,5"),
        row("p2", 2, "1,5.00,6"),
        // It lacks its shipping, so it has as many values as it should.
        row("p3", 1, "1,12,05"),
        row("p4", 1, "1,5,2.50,0"),
    ];
    let file = format!("PURCHASE_ID,Account_Id,occurred_at,Currency,line_id,SKU,Quantity,unit_price,Shipping\n{}", rows.concat());
    let (code, said) = book.import("purchases-csv", file.as_bytes(), &[]).await;
    assert!(code == 2 && said.contains("6 rows: 2 booked, 0 booked before, 4 rejected; 1 commands booked"), "{said}");
    let rejects = book.rejects();
    assert_eq!(fields(&rejects), [(4, ""), (5, "shipping"), (6, "unit_price"), (7, "quantity")], "{rejects:?}");
    assert!(rejects[2].2.contains("12,05") && rejects[3].2.contains("1,5"), "{rejects:?}");
    let refund = r#"{"refund_id": "r1", "account_id": "a1", "occurred_at": "2010-02-02T00:00:00Z", "amount": "5.00"}"#;
    let (code, said) = book.import("purchases-jsonl", refund.as_bytes(), &[]).await;
    assert!(code == 2 && fields(&book.rejects()) == [(1, "refund_id")], "{said}");
}
