//! `farrier webhook`, as an admin uses it.

use tokio::runtime::Runtime;

use crate::harness::{farrier, prepared, text, wait_until};

const TEMPLATE: &str = "version: '1'\nname: short\ntasks: [{name: only, succeed: {}}]\n";

#[test]
fn a_webhook_is_made_tried_and_looked_at_without_its_secrets() {
    let runtime = Runtime::new().expect("runtime");
    let (address, _agent) = runtime.block_on(prepared(TEMPLATE));
    // Nobody is there.
    let url = "http://ann:hidden@127.0.0.1:9/hook";
    let create = ["webhook", "create", "ops", "--url", url, "--on", "ended,approval"];
    let made = text(&farrier(&address, &create));
    assert!(
        made.starts_with("webhook ops is told of approval, ended from now on\n"),
        "{made}"
    );
    let key = made.split_whitespace().find(|word| word.starts_with("whsec_"));
    let key = key.expect("the key").to_owned();

    let tested = farrier(&address, &["webhook", "test", "ops"]);
    assert_eq!(tested.status.code(), Some(1));
    let said = String::from_utf8_lossy(&tested.stdout).into_owned();
    assert!(said.contains("was not taken: no connection"), "{said}");

    let id = text(&farrier(&address, &["workflow", "create", "-t", "short", "-q"]));
    wait_until(&address, &["webhook", "get", "ops"], |shown| {
        shown.contains("FAILING: no connection") && shown.contains("tried again")
    });
    let listed = text(&farrier(&address, &["webhook", "deliveries", "ops"]));
    assert!(listed.contains("workflow.ended"), "{listed}");
    assert!(
        listed.contains(id.trim()) && listed.contains("PENDING"),
        "{listed}"
    );
    for args in [
        &["webhook", "list"][..],
        &["webhook", "get", "ops", "-o", "json"],
        &["webhook", "deliveries", "ops", "-o", "json"],
    ] {
        let said = text(&farrier(&address, args));
        assert!(said.contains("ops") || said.contains("evt_"), "{said}");
        assert!(!said.contains("hidden") && !said.contains(&key), "{said}");
    }
    let deleted = text(&farrier(&address, &["webhook", "delete", "ops"]));
    assert_eq!(deleted, "webhook ops deleted\n");
    let gone = farrier(&address, &["webhook", "get", "ops"]);
    assert_eq!(gone.status.code(), Some(3));
    let wrong = farrier(
        &address,
        &["webhook", "create", "ops", "--url", "file:///x", "--on", "ended"],
    );
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(said.contains("bad address of a webhook"), "{said}");
}
