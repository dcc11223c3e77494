//! A script that manages keys by exit codes alone, and what others see of it.

use std::fs;

use crate::program::{Program, Ran};

/// Each line ends the script with its number if a command exits with another code than it says.
const SCRIPT: &str = r#"
expect() { # CODE COMMAND..
    code=$1; shift
    "$@" > out 2> err
    got=$?
    [ $got = "$code" ] || { echo "expected $code, got $got: $*"; cat out err; exit 1; }
}
apikey() { "$APIKEY" "$@"; }

expect 0 apikey keys create ci --owner acme --scope orders:read --output id --secret-file key
id=$(cat out)
expect 0 apikey keys verify < key
expect 0 apikey keys verify --scope orders:read < key
expect 10 apikey keys verify --scope orders:write < key
expect 0 apikey keys disable "$id" --confirmed --yes
expect 10 apikey keys verify < key
expect 0 apikey keys enable "$id" --confirmed
expect 0 apikey keys verify < key
expect 2 apikey owners suspend acme
expect 0 apikey owners suspend acme --dry-run
expect 0 apikey keys verify < key
expect 0 apikey owners suspend acme --yes
expect 10 apikey keys verify < key
expect 0 apikey owners resume acme --dry-run
expect 10 apikey keys verify < key
expect 0 apikey owners resume acme
expect 0 apikey keys verify < key

# Nothing is overwritten, and nothing is revoked without an answer.
expect 1 apikey keys create ci --output id --secret-file key
expect 2 apikey keys create ci --output id
expect 2 apikey keys revoke "$id"
expect 2 apikey owners revoke acme
expect 0 apikey keys verify < key

expect 0 apikey keys update "$id" --label x --dry-run
expect 0 apikey keys rotate "$id" --dry-run
expect 0 apikey keys create ci --dry-run
expect 2 apikey keys rotate "$id" --grace 0s
expect 0 apikey keys verify < key
expect 0 apikey keys revoke "$id" --reason leaked --yes
expect 0 apikey keys revoke "$id" --yes
expect 5 apikey keys rotate "$id" --dry-run
expect 10 apikey keys verify < key
expect 5 apikey keys rotate "$id" --output id --secret-file key2 --yes
expect 5 apikey keys enable "$id"

unknown=0000000000000000000000
expect 3 apikey keys show $unknown
expect 3 apikey keys revoke $unknown --yes
expect 3 apikey owners revoke acmme --yes
expect 2 apikey keys show not-an-id
expect 2 apikey keys list --state unknown
expect 2 apikey audit --since tomorrow
expect 2 apikey unknown
expect 2 env ACTIX_API_KEY_PREFFIX=a "$APIKEY" keys list
expect 4 env ACTIX_API_KEY_MAX_LIFETIME_HOURS=24 "$APIKEY" keys create ci --expires 90d --output id --secret-file key3
expect 6 env APIKEYS_STORE=redis://127.0.0.1:1 "$APIKEY" keys list --timeout 500ms
expect 3 env APIKEYS_STORE=sqlite:missing.db "$APIKEY" keys list
[ ! -e missing.db ] && [ ! -e key2 ] && [ ! -e key3 ] || { echo "a file was left"; exit 1; }
echo done
"#;

pub(crate) fn run_script(program: &Program, script: &str) -> Ran {
    fs::write(program.path("script.sh"), script).unwrap();
    let mut shell = std::process::Command::new("sh");
    shell
        .arg("script.sh")
        .env("APIKEY", env!("CARGO_BIN_EXE_apikey"))
        .env("APIKEYS_STORE", &program.address)
        .current_dir(program.folder.path());
    shell.output().unwrap().into()
}

#[tokio::test]
async fn a_script_manages_keys_by_exit_codes_alone() {
    let program = Program::sqlite();
    let server = program.server().await;
    let ran = run_script(&program, SCRIPT);
    assert_eq!(ran.stdout, "done\n", "{ran:?}");
    let revoked = &server.list().owner("acme").await.unwrap().keys[0];
    assert!(revoked.revoked.is_some(), "{revoked:?}");
    // Negative control: the script ends at the first code that it does not expect.
    let mut other = Program::sqlite();
    other.address.clone_from(&program.address);
    let script = SCRIPT.replacen(
        "expect 10 apikey keys verify",
        "expect 0 apikey keys verify",
        1,
    );
    let ran = run_script(&other, &script);
    assert!(
        ran.code == 1
            && ran
                .stdout
                .starts_with("expected 0, got 10: apikey keys verify"),
        "{ran:?}"
    );
}

/// The program waits for a key on stdin, so that its entry in the list of processes can be read.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_list_of_processes_shows_neither_a_secret_nor_the_address_of_the_store() {
    use std::io::Write;
    use std::process::Stdio;

    let program = Program::sqlite();
    let server = program.server().await;
    let key = server.create("ci").await.unwrap();
    fs::write(program.path("store"), &program.address).unwrap();
    let mut command = program.command(&["keys", "verify", "--store-file", "store"]);
    command
        .env_remove("APIKEYS_STORE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let (first, rest) = key.expose_secret().split_at(20);
    stdin.write_all(first.as_bytes()).unwrap();
    let id = child.id();
    let read = |file: &str| {
        let read = fs::read(format!("/proc/{id}/{file}")).unwrap();
        String::from_utf8_lossy(&read).into_owned()
    };
    // It is empty until the new program is set up.
    while read("cmdline").is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        std::thread::yield_now();
    }
    let shown = ["cmdline", "environ"].map(read);
    stdin.write_all(rest.as_bytes()).unwrap();
    drop(stdin);
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(shown[0].contains("verify"), "{shown:?}");
    for text in &shown {
        assert!(
            !text.contains(first) && !text.contains("keys.db"),
            "{shown:?}"
        );
    }
}

#[tokio::test]
async fn a_key_among_the_arguments_is_not_repeated() {
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server.create("ci").await.unwrap();
    let secret = key.expose_secret();
    for arguments in [
        &["keys", "verify", secret][..],
        &["keys", "show", secret],
        &["keys", "revoke", "--yes", secret],
        &["keys", "list", secret],
        &["audit", "--key", secret],
        &[secret],
    ] {
        let said = program.run(arguments).failed(2);
        assert!(!said.contains(&secret[30..]), "{arguments:?} {said}");
    }
}

#[test]
fn an_address_instead_of_a_path_is_not_repeated() {
    let program = Program::sqlite();
    let address = "postgres://app:hunter2@127.0.0.1:1/keys";
    let file = format!("file:{address}");
    for arguments in [
        &["keys", "list", "--sqlite", address][..],
        &["keys", "list", "--store-file", address],
        &["store", "check", "--sqlite", address],
        &["store", "copy", &file, "sqlite:other.db"],
    ] {
        let said = program.run(arguments).failed(2);
        assert!(!said.contains("hunter2"), "{arguments:?} {said}");
        assert!(said.contains("APIKEYS_STORE"), "{arguments:?} {said}");
    }
}

/// Drivers of PostgreSQL take settings in place of a URL, and a URL may be mistyped.
#[tokio::test]
async fn a_text_that_may_be_an_address_is_no_path_and_is_not_repeated() {
    let mut program = Program::sqlite();
    program.server().await.create("ci").await.unwrap();
    for address in [
        "host=db user=app password=hunter2 dbname=keys",
        "postgres:app:hunter2@db/keys",
        "postgresql:/app:hunter2/keys",
        "Redis:hunter2",
        "rediss:/hunter2",
        "app:hunter2@db",
    ] {
        address.clone_into(&mut program.address);
        fs::write(program.path("address"), address).unwrap();
        let [file, variable] = ["file", "env"].map(|kind| format!("{kind}:{address}"));
        for arguments in [
            &["keys", "list"][..],
            &["store", "migrate", "--create"],
            &["keys", "list", "--store-file", "address"],
            &["keys", "list", "--store-file", address],
            &["keys", "list", "--sqlite", address],
            &["store", "copy", address, "sqlite:keys.db"],
            &["store", "copy", &file, "sqlite:keys.db"],
            &["store", "copy", &variable, "sqlite:keys.db"],
            &["store", "copy", "env:APIKEYS_STORE", "sqlite:keys.db"],
        ] {
            let said = program.run(arguments).failed(2);
            assert!(!said.contains("hunter2"), "{arguments:?} {said}");
            assert!(said.contains("help:"), "{arguments:?} {said}");
        }
    }
    // Negative control: a path is one, whatever its letters.
    fs::rename(program.path("keys.db"), program.path("k@a=b.db")).unwrap();
    fs::write(program.path("a@b=c"), "sqlite:k@a=b.db\n").unwrap();
    for named in [["--store-file", "a@b=c"], ["--sqlite", "k@a=b.db"]] {
        program.run(&[&["keys", "list"][..], &named].concat()).ok();
    }
    "sqlite:k@a=b.db".clone_into(&mut program.address);
    program.run(&["keys", "list"]).ok();
}

#[tokio::test]
async fn hints_are_for_the_person_at_the_terminal() {
    let program = Program::sqlite();
    let server = program.server().await;
    let said = program.run(&["owners", "suspend", "a; b"]).failed(3);
    assert!(
        said.contains("a; b") && said.contains("`apikey owners list`"),
        "{said}"
    );
    assert!(!said.contains("list()"), "{said}");
    let key = server.create("ci").await.unwrap();
    let ran = program.run(&["keys", "usage", key.id().as_str()]);
    assert!(
        ran.code == 0 && ran.stderr.contains("note:") && ran.stderr.contains("10s"),
        "{ran:?}"
    );
}
