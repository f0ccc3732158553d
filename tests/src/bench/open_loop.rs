//! Requests that go out at a given rate. Each has a time at which it is due, and its latency counts from then,
//! also where it had to wait because all connections were taken.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::load::{Load, Sample, Use, histogram};
use super::target::{PATIENCE, Target};
use super::wire::Wire;
use crate::now;

pub(super) fn run(target: &Target, load: &Load, rate: f64) -> Sample {
    assert!(load.connection == Use::Kept, "the open loop keeps its connections");
    let mut latencies = histogram();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let mut wires: Vec<Wire> = (0..load.connections).map(|_| Wire::open(target)).collect();
    for (index, wire) in wires.iter().enumerate() {
        epoll::add(&epoll, wire, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN).unwrap();
    }
    let mut idle: VecDeque<usize> = (0..wires.len()).collect();
    let mut due_of = vec![now(); wires.len()];
    let mut schedule = Schedule::new(now(), rate, load.time);
    let mut events = Vec::with_capacity(load.connections);
    let mut answered = now();
    loop {
        let time = now();
        while let Some(due) = schedule.due(time) {
            let Some(index) = idle.pop_front() else { break };
            schedule.advance();
            due_of[index] = due;
            wires[index].send(target);
        }
        if schedule.is_over() && idle.len() == wires.len() {
            return Sample { latencies, elapsed: answered - schedule.start };
        }
        assert!(time - answered.max(schedule.start) < PATIENCE, "{:?}: no answer", target.address);
        events.clear();
        // Without waiting: this thread has its core for itself, and a timer is late by more than a request takes.
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&ZERO)).unwrap();
        for event in &events {
            let index = usize::try_from(event.data.u64()).unwrap();
            if wires[index].receive(target) {
                answered = now();
                latencies.saturating_record(u64::try_from((answered - due_of[index]).as_nanos()).unwrap());
                idle.push_back(index);
            }
        }
    }
}

const ZERO: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };

/// When each request is due.
struct Schedule {
    start: Instant,
    rate: f64,
    next: u32,
    count: u32,
}

impl Schedule {
    fn new(start: Instant, rate: f64, time: Duration) -> Self {
        Self { start, rate, next: 0, count: (rate * time.as_secs_f64()) as u32 }
    }

    /// The next request's time, if that has come.
    fn due(&self, time: Instant) -> Option<Instant> {
        let due = self.start + Duration::from_secs_f64(f64::from(self.next) / self.rate);
        (!self.is_over() && due <= time).then_some(due)
    }

    fn advance(&mut self) {
        self.next += 1;
    }

    fn is_over(&self) -> bool {
        self.next == self.count
    }
}
