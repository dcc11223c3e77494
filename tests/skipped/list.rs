//! Prints which tests of this run were skipped, and how to run them.

use apikey_test_support::skip;

fn main() {
    print!("{}", skip::take_list());
}
