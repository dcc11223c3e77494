//! Values that a terminal would obey, in the formats for programs.

use apikey_runtime::ApiKeyManager;
use serde_json::{Deserializer, Value};
use sqlx::{Connection, SqliteConnection};

use crate::on_terminal::Terminal;
use crate::program::Program;
use crate::terminal::is_plain;

const HOSTILE: &str =
    "a\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}5n\u{7f}\u{202e}gnp\u{e0041}\r\nnew\tline, 木";

/// Makes a key whose texts are hostile. The manager rejects such texts, a statement by hand does not.
async fn hostile_key(program: &Program, server: &ApiKeyManager) -> String {
    let id = server.create("ci").owner("acme").await.unwrap().id();
    let url = format!("sqlite:{}", program.path("keys.db").display());
    let mut tool = SqliteConnection::connect(&url).await.unwrap();
    let update = sqlx::query("UPDATE api_keys SET label = ?1, owner = ?1, description = ?1");
    update.bind(HOSTILE).execute(&mut tool).await.unwrap();
    id.to_string()
}

fn documents(text: &str) -> Vec<Value> {
    let documents = Deserializer::from_str(text).into_iter();
    documents.collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn a_terminal_obeys_no_row_for_programs_which_get_exact_values() {
    let program = Program::sqlite();
    let server = program.server().await;
    let id = hostile_key(&program, &server).await;
    for command in [
        &["keys", "list"][..],
        &["keys", "show", &id],
        &["owners", "list"],
        &["audit"],
    ] {
        for format in ["csv", "id", "json", "jsonl"] {
            let arguments = [command, &["--output", format]].concat();
            let test = "a_terminal_obeys_no_row_for_programs";
            let Some(screen) = Terminal::default().run(test, &program, &arguments) else {
                return;
            };
            assert_eq!(screen.code, 0, "{arguments:?} {screen:?}");
            // A line of CSV ends with CR LF.
            let shown = screen.text.replace("\r\n", "\n");
            let is_invisible = |letter| matches!(letter, '\u{202e}' | '\u{e0041}');
            assert!(
                is_plain(&shown) && !shown.contains(is_invisible),
                "{arguments:?} {shown:?}"
            );
            // Control: what is not a terminal gets each value as it is.
            let exact = program.run(&arguments).ok();
            match format {
                "json" | "jsonl" => {
                    assert!(exact.contains("\u{9b}5n\u{7f}\u{202e}gnp"), "{exact:?}");
                    assert_eq!(documents(&shown), documents(&exact), "{arguments:?}");
                }
                "csv" => {
                    assert!(exact.contains(HOSTILE), "{exact:?}");
                    assert!(shown.contains("\\u{1b}[2J") && shown.contains('木'));
                    assert!(!shown.contains("\nnew"), "{shown}");
                    // The audit log's own CSV has a change in this form.
                    let has_change = |text: &str| text.contains(r#"""label"":[null,""ci""]"#);
                    for text in [&shown, &exact] {
                        assert_eq!(has_change(text), command[0] == "audit", "{text:?}");
                    }
                }
                _ => assert_eq!(exact.contains(HOSTILE), command[0] == "owners"),
            }
        }
    }
}
