//! The commands that change keys, by their exit codes.

use apikey_runtime::audit::ChangeChannel;
use apikey_runtime::{KeyId, KeyState, Timestamp};

use sqlx::{Connection, SqliteConnection};

use crate::program::Program;

#[tokio::test]
async fn a_change_that_stops_clients_asks_first() {
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server.create("ci").owner("42").await.unwrap();
    let id = key.id().to_string();
    for command in ["revoke", "disable", "rotate"] {
        let error = program.run(&["keys", command, &id]).failed(2);
        assert!(error.contains("--yes") && error.contains("`ci`"), "{error}");
        assert!(error.contains("--dry-run"), "{error}");
        // An answer in a pipe is no terminal.
        program
            .run_with_input(&["keys", command, &id], "yes\n")
            .failed(2);
    }
    // No time is no grace.
    let error = program.run(&["keys", "rotate", &id, "--grace", "0s"]);
    assert!(error.failed(2).contains("--yes"));
    program.run(&["keys", "purge", "--before", "1d"]).failed(2);
    assert!(server.introspect(key.expose_secret()).await.unwrap().active);
    let rows = program.json(&["keys", "revoke", &id, "--dry-run"]);
    assert_eq!(
        (&rows[0]["id"], &rows[0]["state"]),
        (&id.as_str().into(), &"active".into())
    );
    assert!(server.introspect(key.expose_secret()).await.unwrap().active);

    let rows = program.json(&["keys", "revoke", &id, "--yes", "--reason", "leaked"]);
    assert_eq!(rows[0]["state"], "revoked");
    assert_eq!(rows[0]["revoked_reason"], "leaked");
    assert_eq!(rows[0]["acknowledged"], serde_json::Value::Null);
}

#[tokio::test]
async fn the_audit_log_names_the_actor_the_channel_and_the_reason() {
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server.create("ci").await.unwrap();
    let id = key.id().to_string();
    program
        .run(&["keys", "disable", &id, "--yes", "--reason", "asleep"])
        .ok();
    program
        .run(&["keys", "enable", &id, "--actor", "ticket 7"])
        .ok();
    let page = server.audit().key(key.id()).await.unwrap();
    let origins: Vec<_> = page.entries.iter().map(|entry| &entry.origin).collect();
    let [enabled, disabled, _created] = origins[..] else {
        panic!("{origins:?}");
    };
    assert_eq!(enabled.actor.as_deref(), Some("ticket 7"));
    let actor = disabled.actor.as_deref().unwrap();
    let (user, host) = actor.strip_prefix("cli:").unwrap().split_once('@').unwrap();
    assert!(!user.is_empty() && !host.is_empty(), "{actor}");
    assert_eq!(disabled.reason.as_deref(), Some("asleep"));
    assert_eq!(disabled.channel, ChangeChannel::CommandLine);
}

#[tokio::test]
async fn a_script_tells_the_outcomes_apart_by_the_exit_code() {
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server.create("ci").scopes(["a"]).await.unwrap();
    let id = key.id().to_string();
    let unknown = "0".repeat(22);
    for command in ["enable", "disable", "revoke"] {
        program
            .run(&["keys", command, &unknown, "--yes", "--output", "id"])
            .failed(3);
    }
    for command in ["rotate", "usage"] {
        program.run(&["keys", command, &unknown, "--yes"]).failed(3);
    }
    program
        .run(&["keys", "update", &unknown, "--label", "x"])
        .failed(3);
    program.run(&["keys", "show", "not-an-id"]).failed(2);
    program.run(&["keys", "update", &id]).failed(2);
    program
        .run(&["keys", "update", &id, "--label", ""])
        .failed(2);
    program.run(&["keys", "nothing"]).failed(2);

    let updated = program.json(&[
        "keys",
        "update",
        &id,
        "--scope",
        "b",
        "--scope",
        "c",
        "--if-version",
        "1",
    ]);
    assert_eq!(updated["scopes"], serde_json::json!(["b", "c"]));
    program
        .run(&["keys", "update", &id, "--label", "x", "--if-version", "1"])
        .failed(5);
    let cleared = program.json(&[
        "keys",
        "update",
        &id,
        "--no-scopes",
        "--expires",
        "1h",
        "--owner",
        "7",
    ]);
    assert_eq!(cleared["scopes"], serde_json::json!([]));
    assert_eq!(cleared["owner"], "7");
    assert_eq!(cleared["label"], "ci", "what is not named stays");

    let mut limited = program.command(&["keys", "create", "more", "--owner", "7"]);
    limited.env("ACTIX_API_KEY_MAX_KEYS_PER_OWNER", "1");
    assert_eq!(limited.status().unwrap().code(), Some(4));
    let mut misspelt = program.command(&["keys", "list"]);
    misspelt.env("ACTIX_API_KEY_PREFIKS", "x");
    assert_eq!(misspelt.status().unwrap().code(), Some(2));

    program.run(&["keys", "revoke", &id, "--yes"]).ok();
    program.run(&["keys", "rotate", &id, "--yes"]).failed(5);
    let enable = program.run(&["keys", "enable", &id, "--output", "id"]);
    assert_eq!((enable.code, enable.stdout.as_str()), (5, ""));
    // Again: it is revoked already.
    program.run(&["keys", "revoke", &id, "--yes"]).ok();
}

#[tokio::test]
async fn ids_from_a_pipe_are_changed_and_one_failure_stops_no_other() {
    let program = Program::sqlite();
    let server = program.server().await;
    let mut ids = String::new();
    for number in 0..150 {
        let key = server.create(format!("ci-{number}")).await.unwrap();
        ids += &format!("{}\n", key.id());
    }
    let unknown = "0".repeat(22);
    ids.insert_str(0, &format!("{unknown}\n"));
    let ran = program.run_with_input(&["keys", "disable", "--yes", "-", "--output", "id"], &ids);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert_eq!(ran.stdout.lines().count(), 150);
    assert!(ran.stderr.contains(&unknown));
    let disabled = server
        .list()
        .state(KeyState::Disabled)
        .page_size(1_000)
        .await;
    assert_eq!(disabled.unwrap().keys.len(), 150);
    // Listed, in the order of their making, and not more than asked for.
    let listed = program
        .run(&["keys", "list", "--limit", "20", "--output", "id"])
        .ok();
    assert_eq!(listed.lines().count(), 20);
    let table = program.run(&["keys", "list"]);
    assert_eq!(table.stdout.lines().count(), 101);
    assert!(table.stderr.contains("--limit"), "{}", table.stderr);
    assert_eq!(
        program
            .run(&["keys", "list", "--output", "jsonl"])
            .ok()
            .lines()
            .count(),
        150
    );
}

/// A list that selects no keys is a usual input of a script.
#[tokio::test]
async fn no_ids_from_a_pipe_are_no_error_and_change_nothing() {
    let program = Program::sqlite();
    let server = program.server().await;
    server.create("ci").await.unwrap();
    for command in ["enable", "disable", "revoke"] {
        for more in [&[][..], &["--dry-run"], &["--yes"]] {
            let ids = ["keys", command, "-", "--output", "json"];
            let ran = program.run_with_input(&[&ids[..], more].concat(), "\n");
            assert!(ran.stderr.contains("no ids were given"), "{ran:?}");
            assert_eq!(ran.ok().trim(), "[]");
        }
    }
    let active = server.list().state(KeyState::Active).await.unwrap();
    assert_eq!(active.keys.len(), 1);
}

#[tokio::test]
async fn usage_is_shown_and_ended_keys_are_purged() {
    let program = Program::sqlite();
    let server = program.server().await;
    let (used, gone) = (
        server.create("used").await.unwrap(),
        server.create("gone").await.unwrap(),
    );
    for _ in 0..3 {
        server.verify(used.expose_secret()).await.unwrap();
    }
    server.usage(used.id()).await.unwrap();
    for by in ["hour", "day", "route"] {
        let rows = program.json(&["keys", "usage", used.id().as_str(), "--by", by]);
        assert_eq!(rows[0]["requests"], 3, "{rows}");
    }
    let shown = program.json(&["keys", "show", used.id().as_str()]);
    assert!(shown["last_used"].is_string(), "{shown}");
    assert_eq!(
        program.json(&["keys", "usage", gone.id().as_str()]),
        serde_json::json!([])
    );

    server.revoke(gone.id()).await.unwrap();
    let now = apikey_test_support::later(&server).await;
    let later = Timestamp::from_millis(now.as_millis() + 1).to_string();
    apikey_test_support::later(&server).await;
    apikey_test_support::later(&server).await;
    let purge = ["keys", "purge", "--before", &later];
    let counted = program.json(&[&purge[..], &["--dry-run"]].concat());
    assert_eq!(
        (&counted["keys"], &counted["removed"]),
        (&1.into(), &false.into())
    );
    let purged = program.json(&[&purge[..], &["--yes"]].concat());
    assert_eq!(
        (&purged["keys"], &purged["removed"]),
        (&1.into(), &true.into())
    );
    program.run(&["keys", "show", gone.id().as_str()]).failed(3);
    program
        .run(&["keys", "purge", "--before", "2999-01-01", "--yes"])
        .failed(2);
}

/// The errors of many keys that differ in the id alone are one error, and the exit code is that of the first key.
#[tokio::test]
async fn an_error_of_many_keys_is_told_once() {
    let program = Program::sqlite();
    let server = program.server().await;
    let revoked = server.create("ci").await.unwrap();
    server.revoke(revoked.id()).await.unwrap();
    let live = server.create("ci").await.unwrap();
    // More than are changed at the same time.
    let unknown: Vec<_> = (1..=100).map(|n| KeyId::from_u128(n).to_string()).collect();
    let errors = |text: &str| text.matches("error:").count();
    let enable = ["keys", "enable", "-"];
    let ran = program.run_with_input(&enable, &unknown.join("\n"));
    assert_eq!((ran.code, errors(&ran.stderr)), (3, 1), "{ran:?}");
    assert!(ran.stderr.contains("99 other keys"), "{ran:?}");
    for (number, id) in unknown.iter().enumerate() {
        assert_eq!(ran.stderr.contains(id), number < 4, "{number} {ran:?}");
    }
    let two = program.run_with_input(&enable, &unknown[..2].join("\n"));
    assert!(two.stderr.contains("1 other key:"), "{two:?}");
    assert!(!two.stderr.contains(".."), "{two:?}");
    // Control: what differs in more is told by itself, whichever comes first.
    let (revoked, live) = (revoked.id().to_string(), live.id().to_string());
    for (ids, code) in [
        ([&revoked, &unknown[0], &live, &unknown[1]], 5),
        ([&unknown[0], &revoked, &live, &unknown[1]], 3),
    ] {
        let ids = ids.map(String::as_str).join("\n");
        let ran = program.run_with_input(&enable, &ids);
        assert_eq!((ran.code, errors(&ran.stderr)), (code, 2), "{ran:?}");
        assert!(ran.stdout.contains(&live), "{ran:?}");
        let dry_run = [&enable[..], &["--dry-run"]].concat();
        let ran = program.run_with_input(&dry_run, &unknown.join("\n"));
        assert_eq!((ran.code, errors(&ran.stderr)), (3, 1), "{ran:?}");
    }
    // Keys that were revoked before are told once, too.
    let revoke = ["keys", "revoke", &live, "--yes"];
    program.run(&revoke).ok();
    let ran = program.run(&[&revoke[..], &[&revoked]].concat());
    assert_eq!(ran.stderr.matches("note:").count(), 1, "{ran:?}");
    assert!(ran.stderr.contains("1 other key"), "{ran:?}");
}

#[tokio::test]
async fn a_line_that_is_not_an_id_is_named_and_a_key_has_one() {
    let program = Program::sqlite();
    let server = program.server().await;
    let [first, second, third] = ["a", "b", "c"].map(|label| server.create(label));
    let (first, second, third) = (
        first.await.unwrap(),
        second.await.unwrap(),
        third.await.unwrap(),
    );
    let (id, secret) = (first.id(), second.expose_secret());
    let revoke = |lines: &str| program.run_with_input(&["keys", "revoke", "--yes", "-"], lines);
    let error = revoke(&format!("{id}\n\n{secret}\nno id of s3cret\n")).failed(2);
    assert!(error.contains("line 4 of stdin is not the id"), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
    assert!(server.get(id).await.unwrap().revoked.is_none());

    // As an editor wrote them: with a mark at the beginning, and blanks.
    let lines = format!("\u{feff}{id}\r\nleaked: {secret}\r\n");
    let ran = revoke(&lines);
    assert!(
        ran.stderr.contains("each whole key on stdin (1 key)"),
        "{ran:?}"
    );
    assert!(!ran.stderr.contains(secret), "{ran:?}");
    ran.ok();
    for (key, is_revoked) in [(&first, true), (&second, true), (&third, false)] {
        let record = server.get(key.id()).await.unwrap();
        assert_eq!(record.revoked.is_some(), is_revoked);
    }
}

/// A line may have several keys, and no id is passed over.
#[tokio::test]
async fn all_keys_of_a_line_are_changed_and_an_id_beside_them_is_refused() {
    let program = Program::sqlite();
    let server = program.server().await;
    let [first, second, third] = ["a", "b", "c"].map(|label| server.create(label));
    let (first, second, third) = (
        first.await.unwrap(),
        second.await.unwrap(),
        third.await.unwrap(),
    );
    let [one, two] = [&first, &second].map(|key| key.expose_secret());
    let (own, other) = (first.id(), third.id());
    let revoke = |line: &str| program.run_with_input(&["keys", "revoke", "--yes", "-"], line);
    let is_revoked = async |id| server.get(id).await.unwrap().revoked.is_some();
    for line in [
        format!("{one} {other}"),
        format!("\"{other}\",\"{one}\""),
        format!("{one};{}", other.to_uuid()),
    ] {
        let error = revoke(&line).failed(2);
        assert!(
            error.contains("line 1 of stdin has an id beside"),
            "{error}"
        );
        assert!(!error.contains(one), "{error}");
    }
    assert!(!is_revoked(own).await);
    // An id that is a key's own is not passed over.
    let ran = revoke(&format!("{own},{one},{two}"));
    let told = "each whole key on stdin (2 keys)";
    assert!(ran.stderr.contains(told), "{ran:?}");
    ran.ok();
    assert!(is_revoked(own).await && is_revoked(second.id()).await);
    assert!(!is_revoked(other).await, "negative control");
}

/// A revocation does not depend on a record that can be read.
#[tokio::test]
async fn with_yes_a_key_is_revoked_whose_record_cannot_be_read() {
    let program = Program::sqlite();
    let server = program.server().await;
    let id = server.create("ci").await.unwrap().id();
    server.shutdown().await.unwrap();
    let url = format!("sqlite:{}", program.path("keys.db").display());
    let mut tool = SqliteConnection::connect(&url).await.unwrap();
    let spoil = "UPDATE api_keys SET limits = '[1]'";
    sqlx::raw_sql(spoil).execute(&mut tool).await.unwrap();
    let error = program.run(&["keys", "revoke", id.as_str()]).failed(1);
    assert!(
        !error.contains("--yes"),
        "it is read for the question: {error}"
    );
    let ran = program.run(&["keys", "revoke", id.as_str(), "--yes"]);
    assert!(ran.stderr.contains("the change was made, and"), "{ran:?}");
    let revoked = "SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL";
    let revoked = sqlx::query_scalar(revoked).fetch_one(&mut tool).await;
    assert_eq!(revoked.ok(), Some(1_i64));
}

/// Without an answer, a change may have been made all the same.
#[tokio::test]
async fn a_change_without_an_answer_names_the_key_and_stops_the_others() {
    let program = Program::sqlite();
    let server = program.server().await;
    let mut ids = String::new();
    for number in 0..70 {
        let key = server.create(format!("ci-{number}")).await.unwrap();
        ids += &format!("{}\n", key.id());
    }
    let id = ids.lines().next().unwrap();
    let url = format!("sqlite:{}", program.path("keys.db").display());
    let mut tool = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE")
        .execute(&mut tool)
        .await
        .unwrap();
    let short = ["--timeout", "2s"];
    let show = format!("it is not known whether the change was made: `apikey keys show {id}`");
    for command in [
        &["keys", "update", id, "--label", "x"][..],
        &["keys", "rotate", id, "--yes"],
        &["keys", "disable", id, "--yes", "--output", "id"],
    ] {
        let error = program.run(&[command, &short].concat()).failed(6);
        assert!(error.contains(&show), "{error}");
    }
    let create = [&["keys", "create", "new"][..], &short].concat();
    let error = program.run(&create).failed(6);
    let (_, made) = error.split_once("apikey keys revoke ").unwrap();
    let made: KeyId = made[..22].parse().unwrap();
    let told = format!("whether the key `{made}` was made");
    assert!(error.contains(&told), "{error}");

    let disable = ["keys", "disable", "--yes", "-", "--output", "id"];
    let disable = [&disable[..], &short].concat();
    let error = program.run_with_input(&disable, &ids).failed(6);
    let told = "0 keys of 70 were changed, and 6 not tried";
    assert!(error.contains(told), "{error}");
    // Negative control: the same command continues, once there are answers.
    sqlx::raw_sql("ROLLBACK").execute(&mut tool).await.unwrap();
    let ran = program.run_with_input(&disable, &ids);
    assert!(!ran.stderr.contains("not tried"), "{ran:?}");
}
