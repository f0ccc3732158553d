//! The program: three listeners, a thread for each connection.

use std::fs;
use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use rustls::ServerConfig;
use serde_json::{Value, json};

use super::admin;
use super::stream::Stream;
use super::web::{Arrival, Instance, Sent};
use crate::Authority;
use crate::git::Request;

/// What the command line says.
struct Options {
    directory: PathBuf,
    seed: Option<PathBuf>,
    http: SocketAddr,
    https: SocketAddr,
    admin: SocketAddr,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut options = Self { directory: PathBuf::new(), seed: None, http: any, https: any, admin: any };
        while let Some(word) = words.next() {
            let value = words.next().unwrap_or_else(|| panic!("{word} needs a value"));
            let address = || value.parse().unwrap_or_else(|_| panic!("{word}: {value:?} is no address"));
            match word.as_str() {
                "--directory" => options.directory = value.into(),
                "--seed" => options.seed = Some(value.into()),
                "--http" => options.http = address(),
                "--https" => options.https = address(),
                "--admin" => options.admin = address(),
                _ => panic!("{word}: expected --directory, --seed, --http, --https or --admin"),
            }
        }
        assert!(options.directory.is_dir(), "--directory: expected a directory");
        options
    }
}

/// Serves until it is killed.
pub fn serve(words: impl Iterator<Item = String>) {
    let options = Options::parse(words);
    let repositories = options.directory.join("repositories");
    drop(fs::create_dir(&repositories));
    let instance = Arc::new(Instance::new(repositories));
    if let Some(path) = &options.seed {
        let seed: Value = serde_json::from_slice(&fs::read(path).expect("the seed is readable")).unwrap();
        let (mut state, now) = instance.lock();
        state.seed(&seed, now).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    }
    let authority = Authority::new();
    fs::write(options.directory.join("ca.pem"), authority.pem()).expect("the directory can be written to");
    let bind = |address| TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    let [http, https, admin] = [options.http, options.https, options.admin].map(bind);
    let place = |listener: &TcpListener| listener.local_addr().expect("it is bound").to_string();
    let ready = json!({"http": place(&http), "https": place(&https), "admin": place(&admin)});
    let tls = authority.identity().server();
    let threads = [(http, None), (https, Some(tls))].map(|(listener, tls)| {
        let instance = Arc::clone(&instance);
        thread::spawn(move || accept(&listener, |stream| gitlab(stream, tls.as_ref(), &instance)))
    });
    let new = options.directory.join("ready.json.new");
    fs::write(&new, ready.to_string()).expect("the directory can be written to");
    fs::rename(new, options.directory.join("ready.json")).expect("files can be renamed");
    accept(&admin, |stream| administration(stream, &instance));
    drop(threads);
}

/// Hands each connection to a thread of its own. A client that hangs up is no failure of the server.
fn accept(listener: &TcpListener, serve: impl Fn(TcpStream) -> io::Result<()> + Sync) {
    thread::scope(|scope| {
        for stream in listener.incoming().flatten() {
            let serve = &serve;
            scope.spawn(move || drop(serve(stream)));
        }
    });
}

fn gitlab(stream: TcpStream, tls: Option<&Arc<ServerConfig>>, instance: &Instance) -> io::Result<()> {
    let peer = stream.peer_addr()?.ip();
    let scheme = if tls.is_some() { "https" } else { "http" };
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(Stream::new(stream, tls)?);
    while let Some(request) = Request::read_from(&mut reader)? {
        let last = request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let head = request.method == "HEAD";
        let sent = instance.respond(Arrival { request, peer, scheme });
        let stream = reader.get_mut();
        match sent {
            Sent::Answer(answer) => stream.answer(&answer, if head { 0 } else { usize::MAX })?,
            Sent::Truncated(answer) => return stream.answer(&answer, answer.body.len() / 2),
            Sent::Raw(bytes) => return stream.write_all(bytes).and_then(|()| stream.flush()),
            Sent::Nothing => return Ok(()),
            Sent::Silence => {
                stream.wait_for_the_end();
                return Ok(());
            }
        }
        if last {
            return Ok(());
        }
    }
    Ok(())
}

fn administration(stream: TcpStream, instance: &Instance) -> io::Result<()> {
    let mut reader = BufReader::new(Stream::new(stream, None)?);
    while let Some(request) = Request::read_from(&mut reader)? {
        let answer = admin::answer(instance, &request);
        reader.get_mut().answer(&answer, usize::MAX)?;
    }
    Ok(())
}
