//! Clients that wait for an answer before they ask again.

use rustix::event::epoll;

use super::load::{Load, Sample, Use, histogram};
use super::target::{PATIENCE, Target};
use super::wire::Wire;
use crate::now;

/// One client: it writes and reads, and nothing else.
pub(super) fn one(target: &Target, load: &Load) -> Sample {
    let mut latencies = histogram();
    let mut wire = Wire::open(target);
    let start = now();
    let mut sent = start;
    loop {
        wire.send(target);
        while !wire.receive(target) {}
        let received = now();
        latencies.saturating_record(u64::try_from((received - sent).as_nanos()).unwrap());
        if received - start >= load.time {
            return Sample { latencies, elapsed: received - start };
        }
        sent = received;
        if load.connection == Use::Once {
            wire.reopen(target);
        }
    }
}

/// Many clients on one thread: the kernel says which of them has something to read.
pub(super) fn many(target: &Target, load: &Load) -> Sample {
    let mut latencies = histogram();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let watch = |wire: &Wire, index: usize| {
        epoll::add(&epoll, wire, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN).unwrap();
    };
    let start = now();
    let mut wires = Vec::with_capacity(load.connections);
    let mut sent = Vec::with_capacity(load.connections);
    // One after the other: a server that serves one at a time must not wait for the first one's request while the
    // others wait for the server.
    for index in 0..load.connections {
        sent.push(now());
        let mut wire = Wire::open(target);
        watch(&wire, index);
        wire.send(target);
        wires.push(wire);
    }
    let limit = PATIENCE.try_into().unwrap();
    let mut events = Vec::with_capacity(load.connections);
    let (mut under_way, mut elapsed) = (load.connections, None);
    while under_way > 0 {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&limit)).unwrap();
        assert!(!events.is_empty(), "{:?}: no answer within {PATIENCE:?}", target.address);
        for event in &events {
            let index = usize::try_from(event.data.u64()).unwrap();
            let wire = &mut wires[index];
            if !wire.receive(target) {
                continue;
            }
            let received = now();
            // At the end each client takes its last answer: not every server survives one who does not.
            if received - start >= load.time {
                elapsed.get_or_insert(received - start);
                epoll::delete(&epoll, &*wire).unwrap();
                under_way -= 1;
                continue;
            }
            latencies.saturating_record(u64::try_from((received - sent[index]).as_nanos()).unwrap());
            sent[index] = received;
            if load.connection == Use::Once {
                wire.reopen(target);
                watch(wire, index);
            }
            wire.send(target);
        }
    }
    Sample { latencies, elapsed: elapsed.expect("the first that ends says when") }
}
