//! Rules for leak scanners, written for the keys that a configuration makes.
//!
//! A rule has no word boundary in front of a key: `\b` misses a key after the `n` of an escaped newline, and after
//! `%22`. An id begins with 0 to 7 (128 bits in base62), a checksum with 0 to 4 (32 bits).

use apikey_runtime::Config;
use clap::ValueEnum;

/// The characters of a key besides those of its secret that are random, or nearly so: the id and the checksum.
const ID_AND_CHECKSUM: usize = 22 + 6;

/// The highest entropy that a rule demands, in bits for a character.
const MAX_ENTROPY: f64 = 4.5;

/// Whose rules are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RuleFormat {
    /// The configuration of Gitleaks, TOML
    Gitleaks,
    /// The configuration of TruffleHog, YAML
    Trufflehog,
    /// A plugin for detect-secrets, Python; it compares the checksum
    DetectSecrets,
    /// The fields of a custom pattern on GitHub
    Github,
    /// The regular expression alone, for ripgrep, Python, PCRE, RE2 and Hyperscan
    Regex,
}

/// What keys look like.
#[derive(Debug)]
pub(crate) struct KeyShape {
    prefixes: Vec<String>,
    /// The numbers of characters of secrets, the largest first.
    secret_lengths: Vec<usize>,
    /// The number of different characters in secrets.
    symbols: usize,
}

impl KeyShape {
    /// Returns the shape of the keys that a configuration accepts, if their secrets have its length or one of
    /// `earlier_lengths`.
    pub(crate) fn new(config: &Config, earlier_lengths: &[usize]) -> Self {
        let mut secret_lengths = earlier_lengths.to_vec();
        secret_lengths.push(config.secret_length());
        // An expression takes the first alternative that matches, and the longest has to be it.
        secret_lengths.sort_unstable_by(|one, other| other.cmp(one));
        secret_lengths.dedup();
        Self {
            prefixes: config.prefixes().to_vec(),
            secret_lengths,
            symbols: config.secret_charset().symbols().len(),
        }
    }

    /// Returns the rules as text that ends with a newline.
    pub(crate) fn rules(&self, format: RuleFormat) -> String {
        match format {
            RuleFormat::Gitleaks => include_str!("rules/gitleaks.toml")
                .replace("@KEY@", &self.expression())
                .replace(
                    "@KEYWORDS@",
                    &self.each_prefix(|prefix| format!("\"{prefix}_\"")),
                )
                .replace("@ENTROPY@", &self.entropy_line("entropy = ")),
            RuleFormat::Trufflehog => include_str!("rules/trufflehog.yaml")
                .replace("@KEY@", &self.expression())
                .replace(
                    "@KEYWORDS@",
                    &self.each_prefix(|prefix| format!("{prefix}_")),
                )
                .replace("@ENTROPY@", &self.entropy_line("    entropy: ")),
            RuleFormat::DetectSecrets => self.detect_secrets(),
            RuleFormat::Github => {
                include_str!("rules/github.txt").replace("@KEY@", &self.expression())
            }
            RuleFormat::Regex => self.expression() + "\n",
        }
    }

    /// Returns an expression that matches a key, with constructs that all of the scanners know: classes, counts, and
    /// groups that do not capture.
    fn expression(&self) -> String {
        let prefix = alternatives(&self.prefixes);
        format!(
            "{prefix}_[0-7][0-9A-Za-z]{{21}}_{}[0-4][0-9A-Za-z]{{5}}",
            self.secret()
        )
    }

    /// Returns the part of the expression that matches a secret.
    fn secret(&self) -> String {
        let one_of = |length: &usize| format!("[0-9A-Za-z]{{{length}}}");
        alternatives(&self.secret_lengths.iter().map(one_of).collect::<Vec<_>>())
    }

    fn detect_secrets(&self) -> String {
        let mut prefixes = self.each_prefix(|prefix| format!("'{prefix}'"));
        if self.prefixes.len() == 1 {
            // A tuple of one.
            prefixes.push(',');
        }
        // The expression stands in an f-string.
        let secret = self.secret().replace('{', "{{").replace('}', "}}");
        include_str!("rules/detect_secrets.py")
            .replace("@PREFIXES@", &prefixes)
            .replace("@SECRET@", &secret)
    }

    fn each_prefix(&self, write: impl Fn(&String) -> String) -> String {
        self.prefixes
            .iter()
            .map(write)
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Returns the line that demands an entropy, or nothing if keys have too little of it to tell them from words.
    fn entropy_line(&self, name: &str) -> String {
        match self.entropy() {
            entropy if entropy < 2.0 => String::new(),
            entropy => format!("{name}{entropy:?}\n"),
        }
    }

    /// Returns a Shannon entropy that each key exceeds, in bits for a character and in steps of a half.
    ///
    /// A text of `n` random characters out of `k` has nearly log2 of the smaller number; one bit is left to chance.
    /// The prefix counts as if it did not have any.
    fn entropy(&self) -> f64 {
        let of_key = |prefix: &String, secret: &usize| {
            let random = (secret + ID_AND_CHECKSUM) as f64;
            let whole = random + (prefix.len() + 2) as f64;
            ((self.symbols as f64).min(random).log2() - 1.0) * random / whole
        };
        let lowest = self
            .prefixes
            .iter()
            .flat_map(|prefix| {
                self.secret_lengths
                    .iter()
                    .map(move |secret| of_key(prefix, secret))
            })
            .fold(MAX_ENTROPY, f64::min);
        (lowest * 2.0).floor() / 2.0
    }
}

/// Returns an expression that matches one of these.
fn alternatives(expressions: &[String]) -> String {
    match expressions {
        [only] => only.clone(),
        several => format!("(?:{})", several.join("|")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(config: &str, earlier_lengths: &[usize]) -> KeyShape {
        KeyShape::new(&serde_json::from_str(config).unwrap(), earlier_lengths)
    }

    #[test]
    fn several_prefixes_and_lengths_are_alternatives_the_longest_secret_first() {
        let shape = shape(
            r#"{"prefixes": ["acme", "my_api"], "secret_length": 43}"#,
            &[64, 43],
        );
        let secret = "(?:[0-9A-Za-z]{64}|[0-9A-Za-z]{43})";
        let expected =
            format!("(?:acme|my_api)_[0-7][0-9A-Za-z]{{21}}_{secret}[0-4][0-9A-Za-z]{{5}}\n");
        assert_eq!(shape.rules(RuleFormat::Regex), expected);
        let gitleaks = shape.rules(RuleFormat::Gitleaks);
        assert!(
            gitleaks.contains("keywords = [\"acme_\", \"my_api_\"]\n"),
            "{gitleaks}"
        );
        let trufflehog = shape.rules(RuleFormat::Trufflehog);
        assert!(
            trufflehog.contains("keywords: [acme_, my_api_]\n"),
            "{trufflehog}"
        );
        let plugin = shape.rules(RuleFormat::DetectSecrets);
        assert!(
            plugin.contains("PREFIXES = ('acme', 'my_api')\n"),
            "{plugin}"
        );
        assert!(
            plugin.contains("_(?:[0-9A-Za-z]{{64}}|[0-9A-Za-z]{{43}})[0-4]"),
            "{plugin}"
        );
    }

    #[test]
    fn an_alphabet_of_few_letters_has_a_rule_with_less_entropy_or_without() {
        let entropy = |config: &str| {
            let rules = shape(config, &[]).rules(RuleFormat::Gitleaks);
            rules
                .lines()
                .find_map(|line| line.strip_prefix("entropy = ").map(str::to_owned))
        };
        assert_eq!(entropy("{}").as_deref(), Some("4.5"));
        assert_eq!(
            entropy(r#"{"secret_charset": "hex"}"#).as_deref(),
            Some("2.5")
        );
        let binary = r#"{"secret_charset": "01", "secret_length": 128}"#;
        assert_eq!(entropy(binary), None);
    }

    #[test]
    fn nothing_is_left_to_fill_in() {
        for format in RuleFormat::value_variants() {
            let rules = shape("{}", &[]).rules(*format);
            assert!(!rules.contains('@') && rules.ends_with('\n'), "{rules}");
        }
    }
}
