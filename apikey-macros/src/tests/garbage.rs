//! Random tokens in and below the attribute yield a guard or an error, and never a panic.

use super::*;

/// A random number generator (xorshift64*) with a fixed seed, so that failures are reproducible.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    /// Returns up to `length` random words of `words`, with all groups closed.
    fn text(&mut self, words: &[&str], length: usize, depth: usize) -> String {
        let mut text = String::new();
        for _ in 0..self.below(length + 1) {
            let group = ["()", "[]", "{}"].get(self.below(12));
            match group {
                Some(group) if depth > 0 => {
                    let inside = self.text(words, length, depth - 1);
                    text += &format!("{}{inside}{} ", &group[..1], &group[1..]);
                }
                _ => text += &format!("{} ", self.pick(words)),
            }
        }
        text
    }
}

const ARGUMENTS: &[&str] = &[
    "scope",
    "scopes",
    "location",
    "locations",
    "methods",
    "optional",
    "fresh",
    "require_https",
    "rate_limit",
    "burst",
    "cost",
    "on_limiter_down",
    "prefix",
    "environment",
    "manager",
    "on_error",
    "crate",
    "scheme",
    "all",
    "any",
    "not",
    "bearer",
    "header",
    "basic",
    "query",
    "cookie",
    "json",
    "form",
    "POST",
    "PSOT",
    "=",
    "=",
    "=",
    ",",
    ",",
    ",",
    "::",
    ":",
    "<",
    ">",
    "-",
    "!",
    "#",
    "'a",
    "|",
    ".",
    "5",
    "true",
    "false",
    "\"orders:read\"",
    "\"a:{b}\"",
    "\"{\"",
    "\"\"",
    "\"*\"",
    "\"X-API-Key\"",
    "\"100/minute\"",
    "\"5/10s burst 7\"",
    "\"/\"",
    "99999999999999999999",
    "20u8",
    "b\"x\"",
    "c\"x\"",
    "r\"x\"",
    "'x'",
    "\"ä\"",
    "self",
    "Self",
    "super",
    "r#type",
    "_",
    "1.5",
    "\"x\"suffix",
];

const ITEM: &[&str] = &[
    "async",
    "fn",
    "pub",
    "unsafe",
    "extern",
    "const",
    "f",
    "self",
    "mut",
    "&",
    "->",
    "impl",
    "Responder",
    "Future",
    "where",
    "T",
    "<",
    ">",
    ":",
    "::",
    ",",
    ";",
    "#",
    "!",
    "..",
    "...",
    "=",
    "struct",
    "mod",
    "'a",
    "\"C\"",
    "5",
    "a: A,",
    "a: A",
    "-> R { }",
    "#[cfg(a)]",
    "#[get(\"/\")]",
    "#[cfg_attr(a, b)]",
    "#[protect]",
    "/// Docs.\n",
    "dyn",
    "_",
    "r#type",
    "crate",
    "macro_rules",
];

fn assert_guard_or_error(arguments: &str, item: &str) {
    let (Ok(arguments), Ok(item)) = (arguments.parse(), item.parse()) else {
        return;
    };
    let expansion = guard(arguments, item).to_string();
    assert!(
        expansion.contains("__private :: Guarded") || expansion.contains("compile_error"),
        "an unguarded handler: {expansion}"
    );
}

#[test]
fn any_arguments_give_a_guard_or_an_error() {
    let mut random = Random(0x6b65_795f_6b65_7921);
    for _ in 0..20_000 {
        let arguments = random.text(ARGUMENTS, 8, 3);
        assert_guard_or_error(&arguments, "async fn f(a: A) -> R { a.into() }");
    }
}

#[test]
fn any_item_gives_a_guard_or_an_error() {
    let mut random = Random(0x6974_656d_6974_656d);
    for _ in 0..20_000 {
        assert_guard_or_error("", &random.text(ITEM, 14, 2));
        let inside = random.text(ITEM, 6, 1);
        assert_guard_or_error("fresh", &format!("async fn f({inside}) -> R {{ R }}"));
    }
}
