//! Parses the URL of a store.

use std::str::FromStr;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

/// What sqlx takes from a URL. Anything else it would log, value and all, and a misspelt `password`
/// is one.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "statement-cache-capacity",
];

/// The options in `url`; the error never shows it.
pub(super) fn parse(url: &str) -> Result<PgConnectOptions, String> {
    let unfit = |reason: &str| {
        format!(
            "the URL of the store does not fit: {reason}; write it as in \
             `postgres://user:password@host:5432/database`"
        )
    };
    if !["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
    {
        return Err(unfit("it does not begin with `postgres://`"));
    }
    let query = url.split('#').next().and_then(|url| url.split_once('?'));
    let parameters = query.map_or("", |(_, query)| query).split('&');
    let unknown = (1..).zip(parameters).find(|(_, parameter)| {
        let name = parameter.split('=').next().unwrap_or_default();
        !(name.is_empty() || PARAMETERS.contains(&name) || is_option(name))
    });
    if let Some((place, _)) = unknown {
        // Its place and not its name, which may be a part of the password.
        return Err(unfit(&format!(
            "parameter {place} after the `?` is not known"
        )));
    }
    // The parser's error is not shown, since it may quote a part of the URL.
    let options =
        PgConnectOptions::from_str(url).map_err(|_quotes_it| unfit("it cannot be read"))?;
    let named = options.get_application_name().is_some();
    let options = if named {
        options
    } else {
        options.application_name("apikey")
    };
    Ok(options.disable_statement_logging())
}

/// `options[name]`, as it is or encoded.
fn is_option(name: &str) -> bool {
    name.starts_with("options[") || name.to_ascii_lowercase().starts_with("options%5b")
}
