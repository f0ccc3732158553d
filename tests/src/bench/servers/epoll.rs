//! The floor: one thread, one epoll, and no look at what was asked.

use std::collections::HashMap;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{SocketFlags, accept_with, sockopt};

/// Numbers that no descriptor has.
const UNIX: u64 = u64::MAX;
const TCP: u64 = u64::MAX - 1;

/// Serves for ever.
pub(super) fn serve(unix: &UnixListener, tcp: &TcpListener, body: &str) -> ! {
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let epoll = epoll::create(CreateFlags::CLOEXEC).unwrap();
    epoll::add(&epoll, unix, EventData::new_u64(UNIX), EventFlags::IN).unwrap();
    epoll::add(&epoll, tcp, EventData::new_u64(TCP), EventFlags::IN).unwrap();
    let mut connections: HashMap<u64, OwnedFd> = HashMap::new();
    let mut events = Vec::with_capacity(64);
    let mut buffer = [0; 4096];
    loop {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None).unwrap();
        for event in &events {
            let key = event.data.u64();
            if key == UNIX || key == TCP {
                let listener = if key == UNIX { unix.as_fd() } else { tcp.as_fd() };
                let stream = accept_with(listener, SocketFlags::CLOEXEC).unwrap();
                if key == TCP {
                    sockopt::set_tcp_nodelay(&stream, true).unwrap();
                }
                let key = u64::try_from(stream.as_raw_fd()).unwrap();
                epoll::add(&epoll, &stream, EventData::new_u64(key), EventFlags::IN).unwrap();
                connections.insert(key, stream);
                continue;
            }
            let stream = &connections[&key];
            let count = rustix::io::read(stream, &mut buffer).unwrap_or(0);
            let written = count > 0 && rustix::io::write(stream, answer.as_bytes()).is_ok();
            if !written || buffer[..count].ends_with(b"close\r\n\r\n") {
                connections.remove(&key);
            }
        }
    }
}
