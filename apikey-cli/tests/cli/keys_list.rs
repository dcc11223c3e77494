//! `keys list` and `keys show`.

use apikey_runtime::KeyState;

use crate::program::Program;
use crate::scripts::run_script;

#[tokio::test]
async fn keys_of_a_running_server_are_listed_in_each_format() {
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server
        .create("ci, \"nightly\"")
        .owner("42")
        .scopes(["orders:read", "orders:write"])
        .await
        .unwrap();
    let id = key.id().to_string();

    let table = program.run(&["keys", "list"]).ok();
    assert!(table.contains(&id) && table.contains("active"), "{table}");
    assert!(table.starts_with("ID "), "{table}");

    assert_eq!(
        program.run(&["keys", "list", "--output", "id"]).ok(),
        format!("{id}\n")
    );

    let csv = program.run(&["keys", "list", "--output", "csv"]).ok();
    let lines: Vec<_> = csv.split_terminator("\r\n").collect();
    assert!(
        lines[0].starts_with("id,label,owner,state,scopes,expires,"),
        "{csv}"
    );
    assert!(lines[1].starts_with(&format!(
        "{id},\"ci, \"\"nightly\"\"\",42,active,orders:read orders:write,,"
    )));

    for format in ["json", "jsonl"] {
        let text = program.run(&["keys", "list", "--output", format]).ok();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let first = if format == "json" { &json[0] } else { &json };
        assert_eq!(first["id"], id.as_str());
        assert_eq!(
            first["scopes"],
            serde_json::json!(["orders:read", "orders:write"])
        );
        assert!(
            !text.contains("digest") && !text.contains("sha256"),
            "{text}"
        );
    }
    let empty = program
        .run(&["keys", "list", "--owner", "43", "--output", "json"])
        .ok();
    assert_eq!(empty, "[]\n");

    let shown = program.run(&["keys", "show", &id]).ok();
    assert!(shown.contains("orders:write"), "{shown}");
    let unknown = "0".repeat(22);
    let error = program.run(&["keys", "show", &unknown]).failed(3);
    assert!(error.starts_with("error: a key with the id"), "{error}");
}

#[tokio::test]
async fn an_id_without_a_key_leads_to_the_list_of_keys() {
    let program = Program::sqlite();
    let server = program.server().await;
    let id = server.create("ci").owner("acme").await.unwrap().id();
    server.revoke(id).await.unwrap();
    server.purge(server.now()).await.unwrap();
    let id = id.as_str();
    for command in [
        &["keys", "show", id][..],
        &["keys", "usage", id],
        &["keys", "update", id, "--label", "x"],
        &["keys", "rotate", id, "--yes"],
        &["keys", "revoke", id, "--yes"],
        &["keys", "disable", id, "--yes", "--dry-run"],
        &["keys", "enable", id],
    ] {
        let ran = program.run(command);
        let wanted = format!(
            "error: a key with the id `{id}` does not exist\n  help: `apikey keys list` lists the keys\n"
        );
        assert!(
            ran.code == 3 && ran.stderr.ends_with(&wanted),
            "{command:?} {ran:?}"
        );
    }
    // Control: an owner that never was leads to the owners.
    let error = program.run(&["owners", "resume", "nobody"]).failed(3);
    assert!(error.contains("help: `apikey owners list`"), "{error}");
}

/// An empty filter would select all keys, and a variable of a script that is not set is empty.
#[tokio::test]
async fn an_empty_filter_is_refused_and_not_all_keys() {
    let program = Program::sqlite();
    let server = program.server().await;
    for label in ["ci-1", "web"] {
        server.create(label).owner("acme").await.unwrap();
    }
    for (group, options) in [
        (
            &["keys", "list"][..],
            &["--owner", "--label", "--label-prefix", "--id-prefix"][..],
        ),
        (&["owners", "list"], &["--starting-with"]),
        (&["audit"], &["--owner", "--by"]),
    ] {
        for option in options {
            let error = program.run(&[group, &[option, ""]].concat()).failed(2);
            assert!(error.contains(option), "{error}");
            program.run(&[group, &[option, "c"]].concat()).ok();
        }
    }
    let active = async || {
        let active = server.list().state(KeyState::Active).await.unwrap().keys;
        let mut labels: Vec<_> = active.into_iter().map(|key| key.label).collect();
        labels.sort();
        labels
    };
    let revoke_listed = |prefix: &str| {
        let script = format!(
            "\"$APIKEY\" keys list --label-prefix \"{prefix}\" --output id | \"$APIKEY\" keys revoke --yes -"
        );
        run_script(&program, &script)
    };
    let ran = revoke_listed("$UNSET");
    assert!(ran.stderr.contains("no ids were given"), "{ran:?}");
    assert_eq!(active().await, ["ci-1", "web"]);
    // Negative control.
    revoke_listed("ci").ok();
    assert_eq!(active().await, ["web"]);
}
