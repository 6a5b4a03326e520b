//! What was decided by the wrong rules is put right: one person proposes, another approves, and the book shows both.

use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Up, loyalty, purchase, rulebook, run};

const P: &str = "/v1/programs/shop";

#[tokio::test]
async fn a_replay_is_proposed_by_one_and_approved_by_another() {
    let data = tempfile::tempdir().unwrap();
    let key = |name: &str| json!({"name": name, "hash": api::hash_key(name), "scopes": ["admin"]});
    let (anna, ben, keys) = ("anna", "ben", data.path().join("keys.json"));
    std::fs::write(&keys, json!([key(anna), key(ben)]).to_string()).unwrap();
    let mut up = Up::start(data.path(), &["--api-keys", keys.to_str().unwrap()]).await;
    up.key = Some(anna.into());
    assert_eq!(up.put(&format!("{P}/rulebook"), rulebook()).await.0, StatusCode::CREATED);
    up.put(&format!("{P}/clock"), json!({"now": "2010-03-01T12:00:00Z"})).await;
    up.post(&format!("{P}/purchases"), purchase("p1", "m1", "2010-03-01T12:00:00Z", "A", "100.00")).await;
    up.post(&format!("{P}/purchases"), purchase("p2", "m2", "2010-03-01T12:00:00Z", "A", "40.00")).await;

    let mut generous = rulebook();
    generous["earn"]["base"]["points"] = json!("3");
    let (rules, list) = (data.path().join("generous.json"), data.path().join("corrections.csv"));
    std::fs::write(&rules, generous.to_string()).unwrap();
    let (rules, list) = (rules.to_str().unwrap(), list.to_str().unwrap());
    let replay = ["audit", "replay", "--rulebook", rules, "--since", "2010-02-01T00:00:00Z", "--correct", list];
    let at = ["--server", up.address.as_str(), "--api-key"];
    let proposed = run(&[&replay[..], &at, &[anna]].concat(), data.path()).await;
    assert!(proposed.contains("2 corrections proposed"), "{proposed}");
    let (_, waiting) = up.get(&format!("{P}/accounts/m1/proposals")).await;
    assert_eq!((&waiting["items"][0]["maker"], &waiting["items"][0]["points"]), (&json!("anna"), &json!(200)));
    assert!(waiting["items"][0]["note"].as_str().unwrap().contains("100 points, would be 300; after record"), "{waiting}");

    let approve = |key: &str| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_loyalty"));
        command.args(["audit", "approve", list]).args(at).arg(key);
        command
    };
    let by_maker = approve(anna).output().await.unwrap();
    let why = String::from_utf8_lossy(&by_maker.stderr).into_owned();
    assert!(
        !by_maker.status.success() && why.contains("2 were not approved") && why.contains("anna made the proposal; somebody else must approve it"),
        "{why}"
    );
    // Twice, as after a broken connection: the second time it is the first answer again.
    for _ in 0..2 {
        let by_other = approve(ben).output().await.unwrap();
        let words = String::from_utf8_lossy(&by_other.stdout).into_owned();
        assert!(by_other.status.success() && words.contains("2 corrections approved, +280 points in all"), "{words}");
    }
    let (_, last) = up.post(&format!("{P}/simulate/redemptions"), json!({"redemption_id": "r", "account_id": "m1", "points": 200})).await;
    assert_eq!(last["balance"]["available"], json!(0), "{last}");
    let (status, gone) = up.get(&format!("{P}/accounts/m1/proposals")).await;
    assert_eq!((status, &gone["items"]), (StatusCode::OK, &json!([])));
    up.stop().await;
    let again = run(&["audit", "explain", "shop/m1"], data.path()).await;
    assert!(again.contains("anna proposed an adjustment of +200 points: correction") && again.contains("approval") && again.contains("by ben"), "{again}");
    let verified = loyalty(&["verify"], data.path()).output().await.unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}
