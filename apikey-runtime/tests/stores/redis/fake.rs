//! A fake server, which answers as another kind of server would while a store connects.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

/// A server that answers the commands of a new connection, and nothing else.
pub(super) struct Fake(u16);

impl Fake {
    /// Starts a server that answers HELLO with `hello`, and has this version.
    pub(super) fn start(hello: &str, version: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (hello, version) = (hello.to_owned(), version.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (hello, version) = (hello.clone(), version.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &hello, &version));
            }
        });
        Self(port)
    }

    /// Returns the URL, with this text before the host.
    pub(super) fn url(&self, user: &str) -> String {
        format!("redis://{user}127.0.0.1:{}", self.0)
    }
}

fn serve(stream: TcpStream, hello: &str, version: &str) {
    let mut stream = BufReader::new(stream);
    while let Some(command) = command(&mut stream) {
        let info = format!("redis_version:{version}\r\nrun_id:0123456789abcdef0123\r\n");
        let answer = match command[0].as_str() {
            "HELLO" => hello.to_owned(),
            "EXISTS" => ":0\r\n".to_owned(),
            "ROLE" => "*1\r\n$6\r\nmaster\r\n".to_owned(),
            "INFO" => format!("${}\r\n{info}\r\n", info.len()),
            "CLIENT" => "+OK\r\n".to_owned(),
            other => format!("-ERR unknown command `{other}`\r\n"),
        };
        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn command(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let words = number(stream, '*')?;
    let mut word = || {
        let mut text = vec![0; number(stream, '$')? + 2];
        stream.read_exact(&mut text).ok()?;
        text.truncate(text.len() - 2);
        String::from_utf8(text).ok()
    };
    (0..words).map(|_| word()).collect()
}

fn number(stream: &mut BufReader<TcpStream>, kind: char) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    line.trim_end().strip_prefix(kind)?.parse().ok()
}
