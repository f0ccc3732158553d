//! The batch API of git-lfs with the basic transfer, kept in memory.
//! <https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md>

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::request::{Request, answer};

/// Objects by their SHA-256.
pub(super) type Store = Mutex<BTreeMap<String, Vec<u8>>>;

const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

/// Whether a path is one of ours.
pub(super) fn is_lfs(path: &str) -> bool {
    path.contains("/info/lfs/") || path.starts_with("/lfs-objects/")
}

pub(super) fn serve(stream: &TcpStream, request: &Request, store: &Store, base: &str) -> io::Result<()> {
    if let Some(id) = request.path.strip_prefix("/lfs-objects/") {
        return transfer(stream, request, store, id);
    }
    if !request.path.ends_with("/info/lfs/objects/batch") {
        return answer(
            stream,
            "404 Not Found",
            &[("Content-Type", MEDIA_TYPE)],
            br#"{"message":"no locks here"}"#,
        );
    }
    let asked: Value = serde_json::from_slice(&request.body).map_err(io::Error::other)?;
    let operation = asked["operation"].as_str().unwrap_or_default();
    let objects = asked["objects"].as_array().cloned().unwrap_or_default();
    let answers: Vec<Value> = objects.iter().map(|object| locate(object, operation, store, base)).collect();
    let body = json!({"transfer": "basic", "objects": answers}).to_string();
    answer(stream, "200 OK", &[("Content-Type", MEDIA_TYPE)], body.as_bytes())
}

fn locate(object: &Value, operation: &str, store: &Store, base: &str) -> Value {
    let id = object["oid"].as_str().unwrap_or_default();
    let known = store.lock().unwrap().contains_key(id);
    let mut found = json!({"oid": id, "size": object["size"]});
    if operation == "download" && !known {
        found["error"] = json!({"code": 404, "message": "not there"});
    } else if operation == "download" || !known {
        found["actions"] = json!({operation: {"href": format!("{base}/lfs-objects/{id}")}});
    }
    found
}

fn transfer(stream: &TcpStream, request: &Request, store: &Store, id: &str) -> io::Result<()> {
    let mut store = store.lock().unwrap();
    if request.method == "PUT" {
        store.insert(id.to_owned(), request.body.clone());
        return answer(stream, "200 OK", &[], b"");
    }
    match store.get(id) {
        Some(content) => answer(stream, "200 OK", &[("Content-Type", "application/octet-stream")], content),
        None => answer(stream, "404 Not Found", &[], b""),
    }
}
