//! Requests that are not quite HTTP/1.1, or that two parsers would read differently.

/// Heads and bodies that a daemon refuses with 400 on every transport; the connection ends with that. `HOST` stands
/// for a good host, `PAGE` for a path that is read, and `FORM` for one that takes a body.
pub const MALFORMED: &[(&str, &str)] = &[
    ("no host", "GET PAGE HTTP/1.1\r\n\r\n"),
    ("two hosts", "GET PAGE HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n"),
    ("two different hosts", "GET PAGE HTTP/1.1\r\nHost: HOST\r\nhost: evil.example\r\n\r\n"),
    ("absolute form", "GET http://HOSTPAGE HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("absolute form elsewhere", "GET http://evil.examplePAGE HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("authority form", "CONNECT HOST HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("authority form of another method", "GET evil.example:80 HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("HTTP/1.0", "GET PAGE HTTP/1.0\r\nHost: HOST\r\n\r\n"),
    ("HTTP/1.2", "GET PAGE HTTP/1.2\r\nHost: HOST\r\n\r\n"),
    ("HTTP/2 with prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("HTTP/0.9", "GET PAGE\r\n\r\n"),
    ("a body on GET", "GET PAGE HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\n\r\n{}"),
    (
        "a chunked body on GET",
        "GET PAGE HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a chunked body on POST",
        "POST FORM HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ),
    (
        "a length beside chunked",
        "POST FORM HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("two codings", "POST FORM HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("the identity coding", "POST FORM HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: identity\r\n\r\n"),
    (
        "two lengths that differ",
        "POST FORM HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    ),
    ("a signed length", "POST FORM HTTP/1.1\r\nHost: HOST\r\nContent-Length: +2\r\n\r\n{}"),
    ("a negative length", "POST FORM HTTP/1.1\r\nHost: HOST\r\nContent-Length: -1\r\n\r\n"),
    ("a hexadecimal length", "POST FORM HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0x2\r\n\r\n{}"),
    ("a folded field", "GET PAGE HTTP/1.1\r\nHost: HOST\r\nX-A: 1\r\n 2\r\n\r\n"),
    ("a space before the colon", "GET PAGE HTTP/1.1\r\nHost: HOST\r\nX-A : 1\r\n\r\n"),
    ("a bare carriage return", "GET PAGE HTTP/1.1\r\nHost: HOST\r\nX-A: 1\rX-B: 2\r\n\r\n"),
    ("a NUL", "GET PAGE HTTP/1.1\r\nHost: HOST\r\nX-A: \0\r\n\r\n"),
    ("two spaces", "GET  PAGE HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("a field without a name", "GET PAGE HTTP/1.1\r\nHost: HOST\r\n: x\r\n\r\n"),
    ("a field without a colon", "GET PAGE HTTP/1.1\r\nHost: HOST\r\nnonsense\r\n\r\n"),
    ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\u{0}\r\n\r\n"),
    ("nonsense", "\r\n\r\n\0\0\0\0\r\n\r\n"),
    (
        "chunks beside a length",
        "POST FORM HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    ),
    (
        "a coding that only ends like chunked",
        "POST FORM HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked behind a tab",
        "POST FORM HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked behind a vertical tab",
        "POST FORM HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked in capitals",
        "POST FORM HTTP/1.1\r\nHost: HOST\r\nTRANSFER-ENCODING: CHUNKED\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked before its colon",
        "POST FORM HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding : chunked\r\nContent-Length: 2\r\n\r\n{}",
    ),
    (
        "chunked twice",
        "POST FORM HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked and then something else",
        "POST FORM HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunks with extensions and trailers",
        "POST FORM HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n2;x=\"\r\n\"\r\n{}\r\n0\r\nHost: x\r\n\r\n",
    ),
    (
        "a chunk of a size beyond all counting",
        "POST FORM HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n{}\r\n0\r\n\r\n",
    ),
    ("lengths in a list", "POST FORM HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2, 2\r\n\r\n{}"),
    ("two numbers for a length", "POST FORM HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2 2\r\n\r\n{}"),
    ("a length of no digits", "POST FORM HTTP/1.1\r\nHost: HOST\r\nContent-Length:\r\n\r\n"),
    ("a length with something behind it", "POST FORM HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2;\r\n\r\n{}"),
    (
        "a length beyond all counting",
        "POST FORM HTTP/1.1\r\nHost: HOST\r\nContent-Length: 18446744073709551618\r\n\r\n{}",
    ),
    ("a length before its colon", "POST FORM HTTP/1.1\r\nHost: HOST\r\nContent-Length : 2\r\n\r\n{}"),
    ("a field that begins with a blank", "GET PAGE HTTP/1.1\r\nHost: HOST\r\n X-A: 1\r\n\r\n"),
    (
        "a folded field behind a tab",
        "GET PAGE HTTP/1.1\r\nHost: HOST\r\nX-A: 1\r\n\tTransfer-Encoding: chunked\r\n\r\n",
    ),
    ("a NUL in a name", "GET PAGE HTTP/1.1\r\nHost: HOST\r\nX\0A: 1\r\n\r\n"),
    ("a name that is not ASCII", "GET PAGE HTTP/1.1\r\nHost: HOST\r\nX-\u{e4}: 1\r\n\r\n"),
    ("a NUL in the target", "GET PAGE\0 HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("a carriage return in the target", "GET PAGE\rx HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("something behind the version", "GET PAGE HTTP/1.1 x\r\nHost: HOST\r\n\r\n"),
    ("a version in small letters", "GET PAGE http/1.1\r\nHost: HOST\r\n\r\n"),
    ("a version of another shape", "GET PAGE HTTP/01.1\r\nHost: HOST\r\n\r\n"),
    ("a NUL in the method", "G\0T PAGE HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("a target that is no path", "GET v1 HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("no target", "GET HTTP/1.1\r\nHost: HOST\r\n\r\n"),
];
