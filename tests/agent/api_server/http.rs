//! The part of HTTP/1.1 that clients of an API server use.

use std::io::{self, BufRead, ErrorKind, Read};

use serde_json::Value;

use super::protobuf;

/// A received request, for tests to check.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// The query parameters, decoded.
    pub(crate) query: Vec<(String, String)>,
    /// Names are in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Whether it is a list, also as the beginning of a watch.
    pub(crate) fn is_list(&self) -> bool {
        let is_true = |name| self.parameter(name) == Some("true");
        self.method == "GET" && (!is_true("watch") || is_true("sendInitialEvents"))
    }

    /// Whether protobuf is the first choice for the response.
    pub(super) fn prefers_protobuf(&self) -> bool {
        self.header("accept").is_some_and(|accept| accept.starts_with(PROTOBUF))
    }

    pub(super) fn is_last(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The next request of a connection; `None` at its end.
    pub(super) fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(None);
        }
        let mut words = first.split_whitespace();
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Err(ErrorKind::InvalidData.into());
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = headers(reader)?;
        let length = find(&headers, "content-length").unwrap_or("0").parse();
        let mut body = String::new();
        reader.take(length.map_err(io::Error::other)?).read_to_string(&mut body)?;
        Ok(Some(Self {
            method: method.to_owned(),
            path: decode(path),
            query: parameters(query),
            headers,
            body,
        }))
    }
}

/// A media type.
pub(super) const JSON: &str = "application/json";
/// A media type.
pub(super) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A complete response.
pub(super) struct Response {
    pub(super) code: u16,
    pub(super) retry_after: Option<u32>,
    body: Value,
}

impl Response {
    pub(super) fn new(code: u16, body: &Value) -> Self {
        Self { code, retry_after: None, body: body.clone() }
    }

    /// Head and body.
    pub(super) fn bytes(&self, is_last: bool, is_protobuf: bool) -> (Vec<u8>, Vec<u8>) {
        let (media_type, body) = if is_protobuf && self.body["kind"].is_string() {
            (PROTOBUF, protobuf::object(&self.body))
        } else {
            (JSON, (self.body.to_string() + "\n").into_bytes())
        };
        let retry = self.retry_after.map(|after| format!("Retry-After: {after}\r\n"));
        let length = format!("Content-Length: {}\r\n", body.len());
        let head = head(self.code, media_type, is_last) + &retry.unwrap_or_default() + &length;
        ((head + "\r\n").into_bytes(), body)
    }
}

/// Status line and headers of a response, without the empty line at the end.
pub(super) fn head(code: u16, media_type: &str, is_last: bool) -> String {
    let connection = if is_last { "Connection: close\r\n" } else { "" };
    format!(
        "HTTP/1.1 {code} {}\r\nCache-Control: no-cache, private\r\n\
         Content-Type: {media_type}\r\n{connection}",
        reason(code)
    )
}

/// A chunk of a body of unknown length (chunked transfer encoding).
pub(super) fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

fn reason(code: u16) -> &'static str {
    match code {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Internal Server Error",
    }
}

fn headers(reader: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.split_once(':') {
            Some((name, value)) => headers.push((name.to_lowercase(), value.trim().to_owned())),
            None if line == "\r\n" => return Ok(headers),
            None => return Err(ErrorKind::InvalidData.into()),
        }
    }
}

fn parameters(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let split = |pair: &'_ str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        // A plus is a space in queries only.
        (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
    };
    pairs.map(split).collect()
}

/// Decodes percent encoding. Invalid sequences are kept.
fn decode(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(&part.as_bytes()[2..]);
            }
            None => bytes.extend(format!("%{part}").bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
}
