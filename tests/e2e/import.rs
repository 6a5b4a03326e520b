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
    let spend = reduced.ask("SELECT concat_ws(' ', account, trim_scale(spend)) FROM clv.member ORDER BY account", 2).await;
    assert_eq!(spend, ["15838 15543.6", "18 7.5"]);
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

#[tokio::test]
async fn a_cancellation_of_which_a_part_is_refused_is_not_booked() {
    let mut rules = rulebook();
    rules["return"] = json!({"unmatched": "reduce_spend"});
    let book = Book::under(rules).await;
    let row = |invoice: &str, quantity: &str, day: u32| format!("{invoice},A,GIFT,{quantity},2010-12-0{day} 10:00:00,2.505,17.0,United Kingdom\n");
    // Of three, two were bought; the third would be refunded with half a penny, which can't be paid.
    let file = [RETAIL.to_owned(), row("600001", "2", 1), row("C600002", "-3", 2), row("C600003", "-2", 3)].concat();
    let (_, said) = book.import("online-retail", file.as_bytes(), &[]).await;
    assert!(said.contains("3 rows: 2 booked, 0 booked before, 1 rejected; 2 commands booked"), "{said}");
    let rejects = book.rejects();
    assert!(rejects[0].0 == 3 && rejects[0].2.contains("2.505"), "{rejects:?}");
    let (_, said) = book.import("online-retail", file.as_bytes(), &[]).await;
    assert!(said.contains("3 rows: 0 booked, 2 booked before, 1 rejected; 0 commands booked"), "{said}");
}
