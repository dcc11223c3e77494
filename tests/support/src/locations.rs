//! The places where a key can stand in a request, and requests that carry keys there.

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use apikey_runtime::KeyLocation;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// A place for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Bearer,
    Header,
    Scheme,
    Basic,
    Query,
    Cookie,
    Json,
    Form,
}

impl Door {
    pub const ALL: [Self; 8] = [
        Self::Bearer,
        Self::Header,
        Self::Scheme,
        Self::Basic,
        Self::Query,
        Self::Cookie,
        Self::Json,
        Self::Form,
    ];

    /// As a route names it: `Authorization: Token KEY` for [`Door::Scheme`], `X-API-Key` for
    /// [`Door::Header`], and the name `api_key` elsewhere.
    pub fn location(self) -> KeyLocation<'static> {
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
            Self::Query => KeyLocation::Query { name },
            Self::Cookie => KeyLocation::Cookie { name },
            Self::Json => KeyLocation::Json { name },
            Self::Form => KeyLocation::Form { name },
        }
    }

    /// What a challenge names for it, up to its parameters.
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

    /// All two of them, but for the two kinds of body: a body is of one type.
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

/// Places for a route, for as long as the process runs.
pub fn places(doors: &[Door]) -> &'static [KeyLocation<'static>] {
    let places: Vec<_> = doors.iter().map(|door| door.location()).collect();
    Box::leak(places.into_boxed_slice())
}

/// A request being written.
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

    /// A pair of the query, as it is.
    pub fn query(mut self, pair: &str) -> Self {
        self.query.push(pair.to_owned());
        self
    }

    /// A member of the JSON body, as it is.
    pub fn member(mut self, member: &str) -> Self {
        self.members.push(member.to_owned());
        self
    }

    /// A field of the form, as it is.
    pub fn field(mut self, field: &str) -> Self {
        self.fields.push(field.to_owned());
        self
    }

    /// One more key, at this door. The text is encoded so that it arrives as it is.
    pub fn with(self, door: Door, key: &str) -> Self {
        let encoded = || percent(key);
        match door {
            Door::Bearer => self.header("Authorization", &format!("Bearer {key}")),
            Door::Header => self.header("X-API-Key", key),
            Door::Scheme => self.header("Authorization", &format!("Token {key}")),
            Door::Basic => {
                let credentials = base64(format!("{key}:").as_bytes());
                self.header("Authorization", &format!("Basic {credentials}"))
            }
            Door::Query => self.query(&format!("api_key={}", encoded())),
            Door::Cookie => self.header("Cookie", &format!("api_key={key}")),
            Door::Json => self.member(&format!("\"api_key\":{}", serde_json::json!(key))),
            Door::Form => self.field(&format!("api_key={}", encoded())),
        }
    }

    /// An empty body of the type that the door looks into, where it looks into one.
    pub fn of_type(self, door: Door) -> Self {
        match door {
            Door::Json => self.member("\"n\":1"),
            Door::Form => self.field("n=1"),
            _ => self,
        }
    }

    /// The bytes of its body.
    pub fn body(&self) -> String {
        if self.members.is_empty() {
            self.fields.join("&")
        } else {
            format!("{{{}}}", self.members.join(","))
        }
    }

    /// The bytes of it.
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

/// Every byte but letters, digits and `_` as `%XX`.
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

/// Base64 with its padding (RFC 4648 section 4).
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

/// How often an extractor of the handler's own, and a handler, began.
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

/// An extractor that leaves a trace, and lets its handler leave one. The app's data has to have
/// [`Traces`].
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
