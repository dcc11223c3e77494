//! `owners`.

use std::process::Command;

use serde_json::Value;
use sqlx::{Connection, SqliteConnection};

use crate::program::Program;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn owners_are_listed_in_each_format_and_by_the_beginning_of_their_names() {
    for program in Program::every().await {
        let server = program.server().await;
        for owner in ["globex", "acme", "acid"] {
            server.create("ci").owner(owner).await.unwrap();
        }
        server.suspend_owner("acme").await.unwrap();
        let list = |options: &[&str]| program.run(&[&["owners", "list"], options].concat()).ok();

        let table = list(&[]);
        let lines: Vec<_> = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .collect();
        let expected = [
            vec!["NAME", "SUSPENDED", "REVOCATIONS"],
            vec!["acid", "no", "0"],
            vec!["acme", "yes", "0"],
            vec!["globex", "no", "0"],
        ];
        assert_eq!(lines, expected, "{table}");
        assert_eq!(
            list(&["--output", "id", "--starting-with", "ac"]),
            "acid\nacme\n"
        );
        assert_eq!(
            list(&["--output", "csv", "--limit", "1"]),
            "name,suspended,revocations,version\r\nacid,false,0,1\r\n"
        );
        let acme = &json(&list(&["--output", "json"]))[1];
        assert_eq!(
            (&acme["name"], &acme["suspended"]),
            (&"acme".into(), &true.into())
        );
    }
}

#[tokio::test]
async fn all_keys_of_an_owner_are_revoked_on_a_running_server_at_once() {
    for program in Program::every().await {
        let server = program.server().await;
        let key = server.create("ci").owner("acme").await.unwrap();
        let other = server.create("ci").owner("globex").await.unwrap();
        assert!(server.verify(key.expose_secret()).await.is_ok());

        let asked = program.run(&["owners", "revoke", "acme"]).failed(2);
        assert!(
            asked.contains("It has 1 live key.") && asked.contains("--yes"),
            "{asked}"
        );
        let would = program.run(&["owners", "revoke", "acme", "--dry-run"]);
        assert!(
            would.stderr.contains("would revoke 1 live key"),
            "{would:?}"
        );
        assert!(server.verify(key.expose_secret()).await.is_ok());

        let done = program.run(&[
            "owners",
            "revoke",
            "acme",
            "--reason",
            "breach",
            "--confirmed",
            "--yes",
            "--output",
            "json",
        ]);
        // On a busy machine, its lease may end before it answers.
        let heard = ["acknowledged by", "waited until the lease ended of"]
            .map(|how| done.stderr.contains(&format!("{how} 1 server")));
        assert_eq!(heard.iter().filter(|said| **said).count(), 1, "{done:?}");
        assert_eq!(json(&done.ok())["revocations"], 1);
        assert!(server.verify(key.expose_secret()).await.is_err());
        assert!(server.verify(other.expose_secret()).await.is_ok());

        let entry = &server.audit().owner("acme").await.unwrap().entries[0];
        assert_eq!(entry.origin.channel.code(), "command_line");
        assert_eq!(entry.origin.reason.as_deref(), Some("breach"));
        assert!(
            entry.origin.actor.as_ref().unwrap().starts_with("cli:"),
            "{entry:?}"
        );
    }
}

#[tokio::test]
async fn an_owner_is_suspended_and_resumed_on_a_running_server_at_once() {
    for program in Program::every().await {
        let server = program.server().await;
        let key = server.create("ci").owner("acme").await.unwrap();
        assert!(server.verify(key.expose_secret()).await.is_ok());

        let run = |verb: &str| {
            program.run(&[
                "owners",
                verb,
                "acme",
                "--confirmed",
                "--actor",
                "anna",
                "--yes",
            ])
        };
        let asked = program.run(&["owners", "suspend", "acme"]).failed(2);
        assert!(
            asked.contains("It has 1 live key,") && asked.contains("--yes"),
            "{asked}"
        );
        let would = program.run(&["owners", "suspend", "acme", "--dry-run"]);
        let told = "would suspend 1 live key of the owner `acme`";
        assert!(would.stderr.contains(told), "{would:?}");
        would.ok();
        assert!(server.verify(key.expose_secret()).await.is_ok());
        let suspended = run("suspend");
        assert!(
            suspended.stderr.contains("suspended the owner `acme`"),
            "{suspended:?}"
        );
        assert!(server.verify(key.expose_secret()).await.is_err());
        let again = run("suspend");
        assert!(
            again.code == 0 && again.stderr.contains("was suspended already"),
            "{again:?}"
        );
        let resumed = run("resume");
        assert!(
            resumed.stderr.contains("resumed the owner `acme`"),
            "{resumed:?}"
        );
        assert!(server.verify(key.expose_secret()).await.is_ok());
        let entries = server.audit().actor("anna").await.unwrap().entries;
        assert_eq!(entries.len(), 2, "{entries:?}");
    }
}

/// A name may have what a shell would obey.
#[tokio::test]
async fn a_change_without_an_answer_names_a_command_for_a_shell() {
    let program = Program::sqlite();
    let server = program.server().await;
    let owner = "-o'neil; $(id)";
    server.create("ci").owner(owner).await.unwrap();
    let url = format!("sqlite:{}", program.path("keys.db").display());
    let mut tool = SqliteConnection::connect(&url).await.unwrap();
    let begin = sqlx::raw_sql("BEGIN IMMEDIATE");
    begin.execute(&mut tool).await.unwrap();
    let change = ["owners", "resume", "--timeout", "2s", "--", owner];
    let error = program.run(&change).failed(6);
    let (_, told) = error.rsplit_once("whether the change was made: `").unwrap();
    let (told, _) = told.split_once('`').unwrap();
    let script = format!("apikey() {{ printf '%s\\n' \"$@\"; }}; {told}");
    let shell = Command::new("sh").args(["-c", &script]).output().unwrap();
    let words = String::from_utf8(shell.stdout).unwrap();
    assert_eq!(words, format!("audit\n--owner={owner}\n"), "{error}");
}

#[tokio::test]
async fn an_owner_that_has_never_had_a_key_is_not_found() {
    for program in Program::every().await {
        let _server = program.server().await;
        for verb in ["revoke", "suspend", "resume"] {
            let error = program.run(&["owners", verb, "acmme", "--yes"]).failed(3);
            assert!(
                error.contains("the owner") && error.contains("acmme"),
                "{error}"
            );
        }
    }
}
