//! The locations of a key in a request, and requests that carry keys there.

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use apikey_runtime::KeyLocation;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// A location of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    Bearer,
    Header,
    Scheme,
    Basic,
    WebSocket,
    Query,
    Cookie,
    Json,
    Form,
}

impl Location {
    pub const ALL: [Self; 9] = [
        Self::Bearer,
        Self::Header,
        Self::Scheme,
        Self::Basic,
        Self::WebSocket,
        Self::Query,
        Self::Cookie,
        Self::Json,
        Self::Form,
    ];

    /// Returns the location as a route names it: `Authorization: Token KEY` for
    /// [`Location::Scheme`], `X-API-Key` for [`Location::Header`], and the name `api_key`
    /// elsewhere.
    pub fn to_key_location(self) -> KeyLocation<'static> {
        let name = "api_key";
        match self {
            Self::Bearer => KeyLocation::BEARER,
            Self::Header => KeyLocation::Header {
                name: "x-api-key",
                scheme: None,
            },
            Self::Scheme => KeyLocation::Header {
                name: "authorization",
                scheme: Some("Token"),
            },
            Self::Basic => KeyLocation::Basic,
            Self::WebSocket => KeyLocation::WebSocket,
            Self::Query => KeyLocation::Query { name },
            Self::Cookie => KeyLocation::Cookie { name },
            Self::Json => KeyLocation::Json { name },
            Self::Form => KeyLocation::Form { name },
        }
    }

    /// Returns its challenge, up to the parameters.
    pub fn challenge(self) -> &'static str {
        match self {
            Self::Bearer => "Bearer",
            Self::Scheme => "Token",
            Self::Basic => "Basic realm=\"api\"",
            _ => "ApiKey",
        }
    }

    pub fn is_in_body(self) -> bool {
        matches!(self, Self::Json | Self::Form)
    }

    /// Returns all pairs, except for the two kinds of body: a body has one type.
    pub fn pairs() -> Vec<[Self; 2]> {
        let mut pairs = Vec::new();
        for (at, first) in Self::ALL.into_iter().enumerate() {
            for second in &Self::ALL[at + 1..] {
                if !(first.is_in_body() && second.is_in_body()) {
                    pairs.push([first, *second]);
                }
            }
        }
        pairs
    }
}

/// Returns locations for a route, which live as long as the process.
pub fn key_locations(locations: &[Location]) -> &'static [KeyLocation<'static>] {
    let found: Vec<_> = locations
        .iter()
        .map(|location| location.to_key_location())
        .collect();
    Box::leak(found.into_boxed_slice())
}

/// A request under construction.
#[derive(Debug, Clone)]
pub struct Message {
    method: String,
    path: String,
    query: Vec<String>,
    headers: Vec<(String, String)>,
    members: Vec<String>,
    fields: Vec<String>,
}

impl Message {
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            members: Vec::new(),
            fields: Vec::new(),
        }
    }

    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub fn post(path: &str) -> Self {
        Self::new("POST", path)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a pair to the query, unchanged.
    pub fn query(mut self, pair: &str) -> Self {
        self.query.push(pair.to_owned());
        self
    }

    /// Adds a member to the JSON body, unchanged.
    pub fn member(mut self, member: &str) -> Self {
        self.members.push(member.to_owned());
        self
    }

    /// Adds a field to the form, unchanged.
    pub fn field(mut self, field: &str) -> Self {
        self.fields.push(field.to_owned());
        self
    }

    /// Adds a key at this location. The text is encoded so that it arrives unchanged.
    pub fn with(self, location: Location, key: &str) -> Self {
        let encoded = || percent(key);
        match location {
            Location::Bearer => self.header("Authorization", &format!("Bearer {key}")),
            Location::Header => self.header("X-API-Key", key),
            Location::Scheme => self.header("Authorization", &format!("Token {key}")),
            Location::Basic => {
                let credentials = base64(format!("{key}:").as_bytes());
                self.header("Authorization", &format!("Basic {credentials}"))
            }
            Location::WebSocket => self.header("Sec-WebSocket-Protocol", &format!("bearer, {key}")),
            Location::Query => self.query(&format!("api_key={}", encoded())),
            Location::Cookie => self.header("Cookie", &format!("api_key={key}")),
            Location::Json => self.member(&format!("\"api_key\":{}", serde_json::json!(key))),
            Location::Form => self.field(&format!("api_key={}", encoded())),
        }
    }

    /// Adds an empty body of the type that the location requires, if it requires one.
    pub fn of_type(self, location: Location) -> Self {
        match location {
            Location::Json => self.member("\"n\":1"),
            Location::Form => self.field("n=1"),
            _ => self,
        }
    }

    /// Returns the body.
    pub fn body(&self) -> String {
        if self.members.is_empty() {
            self.fields.join("&")
        } else {
            format!("{{{}}}", self.members.join(","))
        }
    }

    /// Returns the bytes of the request.
    pub fn bytes(&self) -> String {
        let query = if self.query.is_empty() {
            String::new()
        } else {
            format!("?{}", self.query.join("&"))
        };
        let mut text = format!(
            "{} {}{query} HTTP/1.1\r\nHost: localhost\r\n",
            self.method, self.path
        );
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        let body = self.body();
        if !body.is_empty() {
            let kind = if self.members.is_empty() {
                "application/x-www-form-urlencoded"
            } else {
                "application/json"
            };
            text += &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
        }
        text + "\r\n" + &body
    }
}

/// Encodes every byte as `%XX`, except for letters, digits and `_`.
pub fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// Encodes as Base64 with padding (RFC 4648 section 4).
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for place in 0..4 {
            if place <= chunk.len() {
                let digit = (bits >> (18 - 6 * place)) & 63;
                text.push(char::from(DIGITS[digit as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// Counts how often an extractor of the handler, and the handler, began.
#[derive(Debug, Clone, Default)]
pub struct Traces {
    extracted: Arc<AtomicUsize>,
    handled: Arc<AtomicUsize>,
}

impl Traces {
    pub fn counts(&self) -> (usize, usize) {
        (self.extracted.load(SeqCst), self.handled.load(SeqCst))
    }
}

/// An extractor that leaves a trace, and lets its handler leave one. Requires [`Traces`] in the
/// app's data.
pub struct Traced(Traces);

impl FromRequest for Traced {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let traces = request.app_data::<Traces>().unwrap();
        traces.extracted.fetch_add(1, SeqCst);
        ready(Ok(Self(traces.clone())))
    }
}

impl Traced {
    pub fn handled(&self) {
        self.0.handled.fetch_add(1, SeqCst);
    }
}
