//! Guarded requests over HTTP: the guard, handlers and their arguments, the middleware, denials,
//! managers.

mod denials;
mod errors;
mod extractor;
mod guard;
mod handlers;
mod managers;
mod middleware;
mod optional;
mod payload;
mod response_headers;
mod strip;
mod websocket;
mod workers;
