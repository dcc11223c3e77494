//! What the sample configurations say that no test can start.

use serde_json::Value;

const TRAEFIK: &str = include_str!("../../apikey-portal/docs/gateways/traefik.yaml");
const ENVOY: &str = include_str!("../../apikey-portal/docs/gateways/envoy.yaml");
const FORWARD_AUTH: &str =
    include_str!("../../apikey-portal/docs/gateways/apisix-forward-auth.json");
const INTROSPECTION: &str =
    include_str!("../../apikey-portal/docs/gateways/apisix-introspection.json");

const FACTS: [&str; 3] = ["X-Apikey-Id", "X-Apikey-Owner", "X-Apikey-Scopes"];

/// Returns the names that a service of WSGI or CGI reads as this one.
pub fn other_spellings(name: &str) -> Vec<String> {
    let mut parts = name.split('-');
    let mut spellings = vec![parts.next().unwrap().to_owned()];
    for part in parts {
        let joined = |start: String| ["-", "_"].map(|joint| format!("{start}{joint}{part}"));
        spellings = spellings.into_iter().flat_map(joined).collect();
    }
    spellings.retain(|spelling| spelling != name);
    spellings
}

/// Returns the names of the headers that the service does not get from the client.
fn removed_by_apisix(sample: &str) -> Vec<String> {
    let sample: Value = serde_json::from_str(sample).unwrap();
    let removed = &sample["plugins"]["proxy-rewrite"]["headers"]["remove"];
    serde_json::from_value(removed.clone()).unwrap()
}

#[track_caller]
fn has_each(removed: &[String], names: &[String]) {
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !removed.contains(name))
        .collect();
    assert!(missing.is_empty(), "{missing:?} of {removed:?}");
}

#[test]
fn the_spellings_of_a_name_are_all_mixtures() {
    assert_eq!(other_spellings("X-A"), ["X_A"]);
    assert_eq!(other_spellings("X-A-B"), ["X-A_B", "X_A-B", "X_A_B"]);
}

#[test]
fn traefik_and_apisix_remove_each_spelling_of_what_they_state() {
    let traefik: Vec<String> = TRAEFIK
        .lines()
        .filter_map(|line| line.trim().strip_suffix(": \"\""))
        .map(str::to_owned)
        .collect();
    for name in FACTS {
        has_each(&traefik, &other_spellings(name));
        has_each(&removed_by_apisix(FORWARD_AUTH), &other_spellings(name));
    }
}

/// The service's identity is `X-Userinfo`. What else it might read as one is removed.
#[test]
fn apisix_with_introspection_leaves_one_identity_and_no_key() {
    let removed = removed_by_apisix(INTROSPECTION);
    assert!(!removed.contains(&"X-Userinfo".to_owned()));
    has_each(&removed, &other_spellings("X-Userinfo"));
    for name in FACTS.iter().chain(&["X-Access-Token", "X-ID-Token"]) {
        has_each(&removed, &[(*name).to_owned()]);
        has_each(&removed, &other_spellings(name));
    }
    has_each(&removed, &["Authorization".to_owned()]);
}

/// Without the second line, Envoy answers 403 if the application is away: a client would give its key up.
#[test]
fn envoy_is_closed_and_says_that_the_application_is_away() {
    for line in [
        "failure_mode_allow: false",
        "status_on_error: { code: ServiceUnavailable }",
    ] {
        assert!(ENVOY.lines().any(|own| own.trim() == line), "{line}");
    }
}

/// They match `/api/..%2fadmin` as a path below `/api/`, and the service may read it as `/admin`.
#[test]
fn envoy_and_traefik_refuse_encoded_slashes() {
    let own = |sample: &str, line: &str| {
        sample
            .lines()
            .any(|own| own.trim_matches(['#', ' ']) == line)
    };
    assert!(own(
        ENVOY,
        "path_with_escaped_slashes_action: REJECT_REQUEST"
    ));
    for name in ["Slash", "BackSlash", "Semicolon"] {
        assert!(
            own(TRAEFIK, &format!("allowEncoded{name}: false")),
            "{name}"
        );
    }
}
