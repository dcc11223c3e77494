//! Secrets are not in arguments, which each user of the machine sees, and which a shell keeps.

use crate::programs_that_read::pages;

/// Returns the options of a manual page whose value may be a secret.
fn secret_options(page: &str) -> Vec<String> {
    let options = page
        .lines()
        .filter(|line| line.starts_with("\\fB-") && line.contains("\\fI<"));
    let names = options.filter_map(|line| line.split("\\fB--").nth(1)?.split('\\').next());
    let telling = [
        "secret",
        "password",
        "token",
        "pepper",
        "url",
        "address",
        "credential",
        "digest",
    ];
    let is_secret = |name: &&str| {
        telling.iter().any(|word| name.contains(word))
            && !name.ends_with("-file")
            && !name.ends_with("-length")
    };
    names.filter(is_secret).map(str::to_owned).collect()
}

#[test]
fn no_option_takes_a_secret_or_the_address_of_a_store() {
    for (name, page) in pages() {
        assert_eq!(secret_options(&page), [""; 0], "apikey {name}");
        assert!(
            page.contains("--store-file"),
            "apikey {name}: options were not read"
        );
    }
    // Negative control.
    let page = "\\fB--secret\\fR \\fI<SECRET>\\fR\n\\fB--secret-file\\fR \\fI<FILE>\\fR\n\\fB--store-url\\fR \\fI<URL>\\fR\n";
    assert_eq!(secret_options(page), ["secret", "store-url"]);
}
