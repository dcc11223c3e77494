//! Guarded requests over HTTP: the guard, handlers and their arguments, the middleware, denials,
//! managers.

mod change_origin;
mod denials;
mod errors;
mod extractor;
mod guard;
mod handlers;
mod key_notice;
mod managers;
mod middleware;
mod nested_guards;
mod optional;
mod payload;
mod request_facts;
mod response_headers;
mod strip;
mod websocket;
mod workers;
