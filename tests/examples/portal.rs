//! The example `portal`, used by browsers without JavaScript.

use std::path::{Path, PathBuf};

use apikey_test_support::PATIENCE;
use apikey_test_support::http::Answer;
use apikey_test_support::locations::{Message, percent};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use super::{Example, run};

const PORTAL: &str = "/account/api-keys";

/// The running example, with its own files.
struct Site {
    example: Example,
    keys: PathBuf,
    folder: tempfile::TempDir,
}

impl Site {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys.db");
        let mut all = vec![("APIKEYS_DB", keys.as_path())];
        all.extend(
            variables
                .iter()
                .map(|(name, value)| (*name, Path::new(*value))),
        );
        Self {
            example: Example::start("portal", 1, &all).await,
            keys,
            folder,
        }
    }

    /// Starts it once more on the same files.
    async fn restart(self) -> Self {
        drop(self.example);
        Self {
            example: Example::start("portal", 1, &[("APIKEYS_DB", self.keys.as_path())]).await,
            keys: self.keys,
            folder: self.folder,
        }
    }

    /// The password that it printed.
    fn password(&self, name: &str) -> String {
        let prefix = format!("{name}: ");
        let printed = self.example.printed.iter();
        let passwords: Vec<_> = printed
            .filter_map(|line| line.strip_prefix(&prefix))
            .collect();
        assert_eq!(passwords.len(), 1, "{:?}", self.example.printed);
        passwords[0].to_owned()
    }

    fn browser(&self) -> Browser<'_> {
        Browser {
            site: self,
            cookie: None,
        }
    }

    /// A browser in which a user has signed in.
    async fn signed_in(&self, name: &str) -> Browser<'_> {
        let mut browser = self.browser();
        let answer = browser.sign_in(name, &self.password(name), "").await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, Some(PORTAL))
        );
        browser
    }

    async fn hello(&self, key: &str) -> u16 {
        self.example.get("/api/hello", Some(key)).await.status
    }

    /// The texts that stand in a file of the folder.
    fn stored<'t>(&self, texts: &[&'t str]) -> Vec<&'t str> {
        let mut found = Vec::new();
        for file in std::fs::read_dir(self.folder.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            let content = String::from_utf8_lossy(&bytes);
            found.extend(texts.iter().filter(|text| content.contains(**text)));
        }
        found
    }

    /// Changes the table of sessions.
    async fn change(&self, sql: &'static str) {
        let file = self.keys.with_file_name("keys.users.db");
        let options = SqliteConnectOptions::new().filename(file);
        let pool = SqlitePool::connect_with(options).await.unwrap();
        sqlx::query(sql).execute(&pool).await.unwrap();
        pool.close().await;
    }
}

/// A browser with one cookie.
struct Browser<'s> {
    site: &'s Site,
    /// `session=..`.
    cookie: Option<String>,
}

impl Browser<'_> {
    async fn send(&mut self, message: Message, path: &str) -> Answer {
        let message = match &self.cookie {
            Some(cookie) => message.header("Cookie", cookie),
            None => message,
        };
        let answer = self.site.example.send(message).await;
        let cookies = answer.all("set-cookie");
        let may_set = matches!(path, "/login" | "/logout");
        assert!(
            cookies.is_empty() || may_set && cookies.len() == 1,
            "{path}: {cookies:?}"
        );
        if let Some(cookie) = cookies.first() {
            let pair = cookie.split(';').next().unwrap();
            self.cookie = Some(pair.to_owned()).filter(|pair| !pair.ends_with('='));
        }
        answer
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(Message::get(path), path).await
    }

    /// Sends a form as a browser does from a page of the same origin.
    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.post_with(path, fields, &[("Sec-Fetch-Site", "same-origin")])
            .await
    }

    async fn post_with(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut message = Message::post(path);
        for (name, value) in headers {
            message = message.header(name, value);
        }
        for (name, value) in fields {
            message = message.field(&format!("{name}={}", percent(value)));
        }
        self.send(message, path).await
    }

    async fn sign_in(&mut self, name: &str, password: &str, next: &str) -> Answer {
        let fields = [("name", name), ("password", password), ("next", next)];
        self.post("/login", &fields).await
    }

    /// Opens a page below the portal, and sends its form for `action` with its hidden fields and these.
    async fn submit(&mut self, page: &str, action: &str, fields: &[(&str, &str)]) -> String {
        let action = format!("{PORTAL}{action}");
        let shown = self.page(page).await;
        let form = between(&shown, &format!("action=\"{action}\">"), "</form>");
        let hidden: Vec<_> = form.split("<input type=\"hidden\" ").skip(1).collect();
        let mut all = fields.to_vec();
        for input in &hidden {
            all.push((
                between(input, "name=\"", "\""),
                between(input, "value=\"", "\""),
            ));
        }
        let answer = self.post(&action, &all).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    }

    /// Opens a page of the portal.
    async fn page(&mut self, path: &str) -> String {
        let answer = self.get(&format!("{PORTAL}{path}")).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.text()
    }

    /// Whether the portal knows who it is.
    async fn is_signed_in(&mut self) -> bool {
        let answer = self.get(PORTAL).await;
        assert!(matches!(answer.status, 200 | 303), "{answer:?}");
        answer.status == 200
    }
}

/// The text between two others.
#[track_caller]
fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    let (_, rest) = text
        .split_once(before)
        .unwrap_or_else(|| panic!("no {before} in {text}"));
    rest.split_once(after)
        .unwrap_or_else(|| panic!("no {after} in {rest}"))
        .0
}

/// The key that a page shows.
#[track_caller]
fn secret(page: &str) -> String {
    between(page, "data-secret>", "<").to_owned()
}

#[actix_web::test]
async fn portal_goes_from_a_key_to_its_audit_by_forms_alone() {
    let site = Site::start().await;
    let mut alice = site.browser();
    assert_eq!(alice.get("/").await.header("location"), Some(PORTAL));
    let wanted = alice.get(&format!("{PORTAL}/new")).await;
    let login = "/login?next=/account/api-keys/new";
    assert_eq!(
        (wanted.status, wanted.header("location")),
        (303, Some(login))
    );
    let form = alice.get(login).await;
    let next = between(&form.text(), "name=\"next\" value=\"", "\"").to_owned();
    let welcome = alice.sign_in("alice", &site.password("alice"), &next).await;
    assert_eq!(
        (welcome.status, welcome.header("location")),
        (303, Some(&*next))
    );

    let fields = [
        ("label", "nightly"),
        ("scope", "hello:read"),
        ("end", "never"),
    ];
    let made = alice.submit("/new", "/new", &fields).await;
    let first = secret(&made);
    let key = format!("/keys/{}", between(&made, &format!("{PORTAL}/keys/"), "\""));
    assert_eq!(
        (site.hello(&first).await, site.hello("nonsense").await),
        (200, 401)
    );
    // The usage is written from time to time.
    let counted = apikey_test_support::within(PATIENCE, async || {
        let page = alice.page(&key).await;
        page.contains("/api/hello") && page.contains("<svg")
    });
    assert!(counted.await.is_some());

    let rotated = alice
        .submit(
            &format!("{key}/rotate"),
            &format!("{key}/rotate"),
            &[("grace", "3600")],
        )
        .await;
    let second = secret(&rotated);
    assert_ne!(first, second);
    assert_eq!(
        (site.hello(&first).await, site.hello(&second).await),
        (200, 200)
    );
    assert!(alice.page(&key).await.contains("Two secrets work"));

    let mut bob = site.signed_in("bob").await;
    let strange = bob.get(&format!("{PORTAL}{key}")).await;
    assert_eq!(strange.status, 404);
    assert!(!bob.page("").await.contains("nightly"));
    let mut root = site.signed_in("root").await;
    assert!(root.page(&key).await.contains("nightly"));

    let fields = [("reason", "left the company"), ("sure", "yes")];
    let revoked = alice
        .submit(&format!("{key}/revoke"), &format!("{key}/revoke"), &fields)
        .await;
    assert!(revoked.contains("Confirmed on every node"), "{revoked}");
    assert_eq!(
        (site.hello(&first).await, site.hello(&second).await),
        (401, 401)
    );

    let audit = alice.page("/audit").await;
    for told in ["created", "rotated", "revoked", "left the company", "alice"] {
        assert!(audit.contains(told), "{told}: {audit}");
    }
    let listed = alice.get(&format!("{PORTAL}/v1/keys")).await;
    assert_eq!(listed.status, 200);
    assert!(listed.text().contains("\"nightly\""), "{}", listed.text());
    for page in [audit, alice.page(&key).await, listed.text()] {
        assert!(!page.contains(&first) && !page.contains(&second), "{page}");
    }
}

#[actix_web::test]
async fn portal_gives_a_program_the_keys_of_an_owner() {
    let site = Site::start().await;
    let list = format!("{PORTAL}/v1/keys");
    let fields = [
        ("label", "inventory"),
        ("scope", "apikeys:read"),
        ("end", "never"),
        ("owner", "alice"),
    ];
    let mut root = site.signed_in("root").await;
    let key = secret(&root.submit("/new", "/new", &fields).await);
    let answer = site.example.get(&list, Some(&key)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.text().contains("\"inventory\""), "{answer:?}");
    // Alice does not give this scope, so she does not make such a key.
    let mut alice = site.signed_in("alice").await;
    let form = alice.page("/new").await;
    let token = between(&form, "name=\"token\" value=\"", "\"").to_owned();
    let fields = [&fields[..3], &[("token", token.as_str())]].concat();
    let refused = alice.post(&format!("{PORTAL}/new"), &fields).await;
    assert_eq!(refused.status, 403, "{refused:?}");
}

#[actix_web::test]
async fn portal_ends_sessions_on_the_server() {
    let site = Site::start().await;
    let mut alice = site.browser();
    let answer = alice.sign_in("alice", &site.password("alice"), "").await;
    let id = alice
        .cookie
        .clone()
        .unwrap()
        .strip_prefix("session=")
        .unwrap()
        .to_owned();
    let expected = format!("session={id}; HttpOnly; SameSite=Lax; Path=/");
    assert_eq!(answer.all("set-cookie"), [&expected]);
    assert!(id.len() == 32 && alice.is_signed_in().await);
    // A copy of the files is not a login.
    let passwords = ["alice", "bob", "root"].map(|name| site.password(name));
    let mut texts = vec![id.as_str()];
    texts.extend(passwords.iter().map(String::as_str));
    assert!(site.stored(&texts).is_empty());
    assert_eq!(site.stored(&["$argon2id$"]), ["$argon2id$"], "control");

    // An id that somebody chose does not become a session, and another login ends the one before.
    let mut fixed = site.browser();
    fixed.cookie = Some("session=0123456789abcdef0123456789abcdef".to_owned());
    let chosen = fixed.cookie.clone();
    fixed.sign_in("bob", &site.password("bob"), "").await;
    assert_ne!(fixed.cookie, chosen);
    assert!(fixed.is_signed_in().await);
    let mut with_chosen = site.browser();
    with_chosen.cookie = chosen;
    assert!(!with_chosen.is_signed_in().await);
    let before = fixed.cookie.clone();
    fixed.sign_in("bob", &site.password("bob"), "").await;
    with_chosen.cookie = before;
    assert!(fixed.is_signed_in().await && !with_chosen.is_signed_in().await);

    // The page has a button; the cookie that somebody copied is dead.
    let copied = alice.cookie.clone();
    let page = alice.page("").await;
    assert!(
        page.contains("<form method=\"post\" action=\"/logout\">"),
        "{page}"
    );
    let out = alice.post("/logout", &[]).await;
    assert_eq!((out.status, out.header("location")), (303, Some("/login")));
    assert_eq!(alice.cookie, None);
    alice.cookie = copied;
    assert!(!alice.is_signed_in().await);

    // 12 hours after their start and 2 hours after their last request, sessions end.
    for (sooner, later) in [
        (
            "UPDATE sessions SET started = started - 43100",
            "UPDATE sessions SET started = started - 100",
        ),
        (
            "UPDATE sessions SET seen = seen - 7100",
            "UPDATE sessions SET seen = seen - 7200",
        ),
    ] {
        let mut browser = site.signed_in("alice").await;
        site.change(sooner).await;
        assert!(browser.is_signed_in().await, "{sooner}");
        site.change(later).await;
        assert!(!browser.is_signed_in().await, "{later}");
    }
}

#[actix_web::test]
async fn portal_prints_passwords_once_and_renews_them() {
    let site = Site::start().await;
    let (old, of_bob) = (site.password("alice"), site.password("bob"));
    let (kept, other) = (
        site.signed_in("alice").await.cookie,
        site.signed_in("bob").await.cookie,
    );
    let site = site.restart().await;
    let printed = site.example.printed.join("\n");
    assert!(printed.contains("new-password"), "{printed}");
    assert!(
        !printed.contains(&old) && !printed.contains("alice: "),
        "{printed}"
    );
    let (mut alice, mut bob) = (site.browser(), site.browser());
    (alice.cookie, bob.cookie) = (kept, other);
    assert!(alice.is_signed_in().await && bob.is_signed_in().await);

    let variables = [("APIKEYS_DB", site.keys.as_path())];
    let (fine, made) = run("portal", &["new-password", "alice"], &variables);
    assert!(fine, "{made}");
    let new = made.trim_end().strip_prefix("alice: ").unwrap();
    assert!(!alice.is_signed_in().await && bob.is_signed_in().await);
    assert_eq!(alice.sign_in("alice", &old, "").await.status, 403);
    assert_eq!(alice.sign_in("alice", new, "").await.status, 303);
    assert_eq!(bob.sign_in("bob", &of_bob, "").await.status, 303);
    let (fine, told) = run("portal", &["new-password", "mallory"], &variables);
    assert!(
        !fine && told.contains("a user `mallory` does not exist"),
        "{told}"
    );
}

#[actix_web::test]
async fn portal_bounds_attempts_to_sign_in_and_does_not_say_which_names_exist() {
    let site = Site::start().await;
    let mut guesser = site.browser();
    let wrong = guesser.sign_in("alice", "wrong", "").await;
    let unknown = guesser.sign_in("mallory", "wrong", "").await;
    for (answer, name) in [(&wrong, "alice"), (&unknown, "mallory")] {
        assert_eq!(answer.status, 403, "{answer:?}");
        assert!(answer.text().contains("The name or the password is wrong."));
        assert!(
            answer.text().contains(&format!("value=\"{name}\"")),
            "what was typed stays"
        );
    }
    assert_eq!(wrong.text().replace("alice", "mallory"), unknown.text());
    for _ in 0..4 {
        assert_eq!(guesser.sign_in("alice", "wrong", "").await.status, 403);
    }
    // The right password too, so that the answer tells nothing of it.
    for password in ["wrong", &site.password("alice")] {
        let refused = guesser.sign_in("alice", password, "").await;
        assert_eq!(refused.status, 429, "{refused:?}");
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
    }
    assert_eq!(guesser.cookie, None);
    // Another name has attempts of its own, and a right password does not use one.
    for _ in 0..7 {
        site.signed_in("bob").await;
    }
}

#[actix_web::test]
async fn portal_rejects_forged_forms_and_leads_to_its_own_pages_alone() {
    let site = Site::start().await;
    let password = site.password("alice");
    let mut victim = site.signed_in("alice").await;
    let fields = [("name", "alice"), ("password", &*password)];
    let mut visitor = site.browser();
    for headers in [
        &[("Sec-Fetch-Site", "cross-site")][..],
        &[("Sec-Fetch-Site", "same-site")],
        &[
            ("Sec-Fetch-Site", "cross-site"),
            ("Origin", "http://localhost"),
        ],
        &[("Origin", "https://evil.example")],
        &[("Origin", "http://localhost:81")],
        &[("Origin", "null")],
        &[],
    ] {
        let answer = visitor.post_with("/login", &fields, headers).await;
        assert_eq!(
            (answer.status, &visitor.cookie),
            (403, &None),
            "{headers:?}"
        );
        assert_eq!(victim.post_with("/logout", &[], headers).await.status, 403);
        assert!(victim.is_signed_in().await, "{headers:?}");
    }
    // A browser that does not send the first header.
    let own = visitor
        .post_with("/login", &fields, &[("Origin", "http://localhost")])
        .await;
    assert_eq!(own.status, 303);

    for next in [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example/",
        "https:evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/\n/evil.example",
        " //evil.example",
        "/\u{a0}x",
        "evil",
        "",
        // Pages of this site that do not end anywhere.
        "/logout",
        "/logout?x#y",
        "/login?next=/login",
    ] {
        let answer = visitor.sign_in("alice", &password, next).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, Some(PORTAL)),
            "{next:?}"
        );
        let page = visitor.get(&format!("/login?next={}", percent(next))).await;
        let hidden = between(&page.text(), "name=\"next\" value=\"", "\"").to_owned();
        assert_eq!(hidden, PORTAL, "{next:?}");
    }
    for next in [
        "/account/api-keys/audit?key=a&owner=b",
        "/account/api-keys?q=%27%22",
    ] {
        let answer = visitor.sign_in("alice", &password, next).await;
        assert_eq!(answer.header("location"), Some(next));
    }
    let markup = visitor.get("/login?next=/%22%3E%3Cscript%3E").await.text();
    assert!(!markup.contains("<script"), "{markup}");
    for path in ["/login", "/login.css", "/", "/no-such-page"] {
        let answer = visitor.get(path).await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert_eq!(answer.header("strict-transport-security"), None, "{path}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
    }
    // By another method, nothing ends.
    assert_eq!(victim.get("/logout").await.status, 405);
    assert!(victim.is_signed_in().await);
}

#[actix_web::test]
async fn portal_behind_a_proxy_has_the_origin_and_the_cookie_of_its_public_url() {
    let site = Site::start_with(&[("PUBLIC_URL", "https://acme.example")]).await;
    let mut alice = site.browser();
    let password = site.password("alice");
    let fields = [("name", "alice"), ("password", &*password)];
    // The host of the request is not the one that visitors see.
    let inner = [("Origin", "http://localhost")];
    assert_eq!(alice.post_with("/login", &fields, &inner).await.status, 403);
    let outer = [("Origin", "https://acme.example")];
    let answer = alice.post_with("/login", &fields, &outer).await;
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-session="), "{cookie}");
    assert!(
        cookie.ends_with("; HttpOnly; SameSite=Lax; Secure; Path=/"),
        "{cookie}"
    );
    assert!(alice.is_signed_in().await);
    let page = alice.page("").await;
    assert!(page.contains("href=\"/account/api-keys/new\""), "{page}");
    for path in ["/login", PORTAL, "/no-such-page"] {
        let answer = alice.get(path).await;
        let secure = answer.header("strict-transport-security");
        assert_eq!(secure, Some("max-age=31536000"), "{path}");
    }

    for wrong in [
        "acme.example",
        "https://acme.example/shop",
        "ftp://acme.example",
        "",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.db");
        let variables = [
            ("APIKEYS_DB", file.as_path()),
            ("PUBLIC_URL", Path::new(wrong)),
            ("PORT", Path::new("0")),
        ];
        let (fine, told) = run("portal", &[], &variables);
        assert!(
            !fine && told.contains("such as `https://acme.example`"),
            "{wrong}: {told}"
        );
    }
}

#[cfg(unix)]
#[actix_web::test]
async fn portal_keeps_its_files_to_its_owner() {
    use std::os::unix::fs::PermissionsExt;

    let site = Site::start().await;
    site.signed_in("alice").await;
    let files = std::fs::read_dir(site.folder.path()).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap()).collect();
    assert!(files.iter().any(|file| file.file_name() == "keys.users.db"));
    for file in files {
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.path());
    }
}

#[actix_web::test]
async fn portal_names_the_file_and_the_port_that_it_cannot_use() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("folder").join("keys.db");
    for arguments in [&[][..], &["new-password", "alice"]] {
        let (fine, told) = run("portal", arguments, &[("APIKEYS_DB", missing.as_path())]);
        let file = missing.with_extension("users.db").display().to_string();
        assert!(!fine && told.contains(&file), "{told}");
        assert!(told.contains("correct APIKEYS_DB"), "{told}");
    }
    let mistyped = folder.path().join("key.db");
    let (fine, told) = run(
        "portal",
        &["new-password", "alice"],
        &[("APIKEYS_DB", mistyped.as_path())],
    );
    assert!(!fine && told.contains("key.users.db"), "{told}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let file = folder.path().join("keys.db");
    let variables = [("APIKEYS_DB", file.as_path()), ("PORT", Path::new(&*port))];
    let (fine, told) = run("portal", &[], &variables);
    assert!(!fine && told.contains(&format!("port {port}")), "{told}");
    assert!(told.contains("set PORT"), "{told}");
}
