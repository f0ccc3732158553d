//! Brokers' audit logs, as they come in.
//!
//! Lines come at least once and in order; each is stored once. What does not fit to the line before is stored all
//! the same, and there is an event of it: the log is evidence also where it was tampered with.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::row::{Columns, assembled, micros, placeholders, stored};
use super::transaction::Write;
use super::{Announcement, Result, Store, StoreError};
use crate::domain::{BrokerLine, Cause, ChainHead, Decision, EnclaveId, EnclaveIdentity, Event, Ingested};

/// Lines of one statement.
const BATCH: usize = 500;
const COLUMNS: usize = 16;

/// What is known of a broker's log.
struct Chain {
    number: i64,
    head: Option<ChainHead>,
    /// Hashes of the lines that a batch may repeat.
    known: HashMap<u64, HashSet<[u8; 32]>>,
}

/// What a line is to the ones before.
enum Fit {
    Repeated,
    Next,
    Gap(String),
    Broken(String),
    /// The log begins anew.
    Anew,
}

impl Store {
    /// The last line that there is of the log of an enclave's broker.
    pub async fn chain_head(&self, enclave: &EnclaveId) -> Result<Option<ChainHead>> {
        let row = sqlx::query("SELECT seq, head FROM broker_chains WHERE enclave_id = $1")
            .bind(enclave.as_str())
            .fetch_optional(&self.0.reader)
            .await?;
        row.map(|row| Ok(ChainHead { seq: row.count("seq")?, head: hash(row.blob("head")?)? })).transpose()
    }

    /// Stores lines that follow each other in a broker's log: those that are new, and events of what does not fit.
    pub async fn ingest(
        &self,
        enclave: &EnclaveIdentity,
        lines: &[BrokerLine],
        now: Timestamp,
    ) -> Result<Ingested> {
        let mut write = self.write().await?;
        write.lock(&enclave.org).await?;
        let mut chain = write.chain(&enclave.id, lines).await?;
        let mut fresh = Vec::with_capacity(lines.len());
        let mut raised = 0;
        let mut system = Cause::system(enclave.org.clone(), enclave.organisation.clone(), now);
        system.actor.name = "system".into();
        for line in lines {
            let event = match chain.fit(line) {
                Fit::Repeated => continue,
                Fit::Next => None,
                Fit::Gap(reason) => Some(("audit.gap", reason)),
                Fit::Broken(reason) => Some(("audit.broken", reason)),
                Fit::Anew => {
                    chain.number += 1;
                    chain.known.clear();
                    chain.head = None;
                    Some(("audit.gap", "the chain begins anew".to_owned()))
                }
            };
            chain.take(line);
            fresh.push((chain.number, line));
            if let Some((action, reason)) = event {
                let subject = Some(enclave.name.to_string());
                let event =
                    Event { action, subject, agent: None, decision: Decision::Denied, reason: Some(reason) };
                write.event(&system, event).await?;
                raised += 1;
            }
        }
        write.insert_lines(enclave, &fresh).await?;
        write.save_chain(&enclave.id, &chain).await?;
        if !fresh.is_empty() {
            write.announce(Announcement::Audit(enclave.org.clone()));
        }
        write.commit().await?;
        let stored = u64::try_from(fresh.len()).unwrap_or(u64::MAX);
        Ok(Ingested { seq: chain.head.map_or(0, |head| head.seq), stored, raised })
    }
}

impl Chain {
    fn fit(&self, line: &BrokerLine) -> Fit {
        let begins = line.seq == 1 && line.prev == [0; 32];
        let Some(head) = self.head else {
            return if begins {
                Fit::Next
            } else {
                Fit::Gap(format!("the log begins with line {}", line.seq))
            };
        };
        if line.seq <= head.seq {
            return match self.known.get(&line.seq) {
                Some(hashes) if hashes.contains(&line.hash) => Fit::Repeated,
                _ if begins => Fit::Anew,
                Some(_) => Fit::Broken(format!("there is another line {}", line.seq)),
                // Older than what is kept.
                None => Fit::Repeated,
            };
        }
        if line.seq > head.seq + 1 {
            return Fit::Gap(format!("lines {} to {} are missing", head.seq + 1, line.seq - 1));
        }
        if line.prev == head.head {
            Fit::Next
        } else {
            Fit::Broken(format!("line {} does not follow on line {}", line.seq, head.seq))
        }
    }

    fn take(&mut self, line: &BrokerLine) {
        self.known.entry(line.seq).or_default().insert(line.hash);
        if self.head.is_none_or(|head| line.seq > head.seq) {
            self.head = Some(ChainHead { seq: line.seq, head: line.hash });
        }
    }
}

fn hash(bytes: Vec<u8>) -> Result<[u8; 32]> {
    bytes.try_into().map_err(|_| StoreError::Corrupt("a hash of another length"))
}

impl Write<'_> {
    async fn chain(&mut self, enclave: &EnclaveId, lines: &[BrokerLine]) -> Result<Chain> {
        let row = sqlx::query("SELECT chain, seq, head FROM broker_chains WHERE enclave_id = $1")
            .bind(enclave.as_str())
            .fetch_optional(self.connection())
            .await?;
        let Some(row) = row else { return Ok(Chain { number: 1, head: None, known: HashMap::new() }) };
        let number = row.number("chain")?;
        let head = ChainHead { seq: row.count("seq")?, head: hash(row.blob("head")?)? };
        let lowest = lines.iter().map(|line| line.seq).min().unwrap_or(0);
        let mut known: HashMap<u64, HashSet<[u8; 32]>> = HashMap::new();
        if lowest <= head.seq {
            let highest = lines.iter().map(|line| line.seq).max().unwrap_or(0);
            let rows = sqlx::query(
                "SELECT seq, hash FROM audit_events WHERE enclave_id = $1 AND chain = $2 AND seq >= $3 AND seq <= $4",
            )
            .bind(enclave.as_str())
            .bind(number)
            .bind(stored(lowest))
            .bind(stored(highest))
            .fetch_all(self.connection())
            .await?;
            for row in &rows {
                known.entry(row.count("seq")?).or_default().insert(hash(row.blob("hash")?)?);
            }
        }
        Ok(Chain { number, head: Some(head), known })
    }

    async fn insert_lines(&mut self, enclave: &EnclaveIdentity, lines: &[(i64, &BrokerLine)]) -> Result<()> {
        let mut number = self.event_numbers(&enclave.org, u64::try_from(lines.len()).unwrap_or(0)).await?;
        for batch in lines.chunks(BATCH) {
            let sql = format!(
                "INSERT INTO audit_events (org_id, number, time, actor, action, subject, agent, decision, reason, \
                 request_id, enclave_id, enclave, chain, seq, hash, line) VALUES {}",
                placeholders(batch.len(), COLUMNS)
            );
            let mut statement = sqlx::query(assembled(sql)).persistent(false);
            for (chain, line) in batch {
                let event = &line.event;
                statement = statement
                    .bind(enclave.org.as_str())
                    .bind(stored(number))
                    .bind(micros(event.time))
                    .bind(event.actor.as_str())
                    .bind(event.action.as_str())
                    .bind(event.subject.as_deref())
                    .bind(event.agent.as_deref())
                    .bind(event.decision.as_str())
                    .bind(event.reason.as_deref())
                    .bind(event.request_id.as_deref())
                    .bind(enclave.id.as_str())
                    .bind(enclave.name.as_str())
                    .bind(*chain)
                    .bind(stored(line.seq))
                    .bind(line.hash.as_slice())
                    .bind(line.line.as_str());
                number += 1;
            }
            statement.execute(self.connection()).await?;
        }
        Ok(())
    }

    async fn save_chain(&mut self, enclave: &EnclaveId, chain: &Chain) -> Result<()> {
        let Some(head) = chain.head else { return Ok(()) };
        sqlx::query(
            "INSERT INTO broker_chains (enclave_id, chain, seq, head) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (enclave_id) DO UPDATE SET chain = excluded.chain, seq = excluded.seq, head = excluded.head",
        )
        .bind(enclave.as_str())
        .bind(chain.number)
        .bind(stored(head.seq))
        .bind(head.head.as_slice())
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
