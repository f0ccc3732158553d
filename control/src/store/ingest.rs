//! Brokers' audit logs, as they come in.
//!
//! Lines come at least once and in order; each is stored once. What does not fit to the line before is stored all
//! the same, and there is an event of it: the log is evidence also where it was tampered with.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::row::{Columns, PARAMETERS, assembled, clean, micros, placeholders, stored};
use super::transaction::Write;
use super::{Announcement, Result, Store, StoreError};
use crate::audit::{self, Known, Stored};
use crate::domain::{BrokerLine, Cause, ChainHead, Decision, EnclaveId, EnclaveIdentity, Event, Ingested};

const COLUMNS: usize = 16;
/// Lines of one statement.
const BATCH: usize = PARAMETERS / COLUMNS;

impl Store {
    /// The last line that there is of the log of an enclave's broker.
    pub async fn chain_head(&self, enclave: &EnclaveId) -> Result<Option<ChainHead>> {
        let row = sqlx::query("SELECT seq, head FROM broker_chains WHERE enclave_id = $1")
            .bind(enclave.as_str())
            .fetch_optional(&self.0.reader)
            .await?;
        row.map(|row| Ok(ChainHead { seq: row.count("seq")?, head: hash(row.blob("head")?)? })).transpose()
    }

    /// Stores lines of a broker's log: those that are new, and events of what does not fit.
    pub async fn ingest(
        &self,
        enclave: &EnclaveIdentity,
        lines: &[BrokerLine],
        now: Timestamp,
    ) -> Result<Ingested> {
        let mut write = self.write().await?;
        write.lock(&enclave.org).await?;
        let known = write.chain(&enclave.id, lines).await?;
        let (known, plan) = audit::follow(known, lines.to_vec());
        let raised = u64::try_from(plan.findings.len()).unwrap_or(u64::MAX);
        let system = Cause::system(enclave.org.clone(), enclave.organisation.clone(), now);
        for finding in plan.findings {
            let (action, reason) = finding.into_parts();
            let subject = Some(enclave.name.to_string());
            let event =
                Event { action, subject, agent: None, decision: Decision::Denied, reason: Some(reason) };
            write.event(&system, event).await?;
        }
        write.insert_lines(enclave, &plan.store).await?;
        if let Some(known) = &known {
            write.save_chain(&enclave.id, known).await?;
        }
        if !plan.store.is_empty() {
            write.announce(Announcement::Audit(enclave.org.clone()));
        }
        write.commit().await?;
        let stored = u64::try_from(plan.store.len()).unwrap_or(u64::MAX);
        Ok(Ingested { seq: known.map_or(0, |known| known.seq), stored, raised })
    }
}

fn hash(bytes: Vec<u8>) -> Result<[u8; 32]> {
    bytes.try_into().map_err(|_| StoreError::Corrupt("a hash of another length"))
}

impl Write<'_> {
    /// How far the log of an enclave's broker was followed, and the lines that a batch may repeat.
    async fn chain(&mut self, enclave: &EnclaveId, lines: &[BrokerLine]) -> Result<Option<Known>> {
        let row = sqlx::query("SELECT chain, seq, head FROM broker_chains WHERE enclave_id = $1")
            .bind(enclave.as_str())
            .fetch_optional(self.connection())
            .await?;
        let Some(row) = row else { return Ok(None) };
        let (chain, seq, head) = (row.count("chain")?, row.count("seq")?, hash(row.blob("head")?)?);
        let mut known = Known { chain, seq, head, lines: BTreeMap::new() };
        let lowest = lines.iter().map(|line| line.seq).min().unwrap_or(0);
        if lowest <= seq {
            let highest = lines.iter().map(|line| line.seq).max().unwrap_or(0);
            let rows = sqlx::query(
                "SELECT seq, hash FROM audit_events WHERE enclave_id = $1 AND chain = $2 AND seq >= $3 AND seq <= $4",
            )
            .bind(enclave.as_str())
            .bind(stored(chain))
            // With the line before, on which a late one must follow.
            .bind(stored(lowest.saturating_sub(1)))
            .bind(stored(highest))
            .fetch_all(self.connection())
            .await?;
            for row in &rows {
                known.lines.entry(row.count("seq")?).or_default().push(hash(row.blob("hash")?)?);
            }
        }
        Ok(Some(known))
    }

    async fn insert_lines(&mut self, enclave: &EnclaveIdentity, lines: &[Stored]) -> Result<()> {
        let mut number = self.event_numbers(&enclave.org, u64::try_from(lines.len()).unwrap_or(0)).await?;
        for batch in lines.chunks(BATCH) {
            let sql = format!(
                "INSERT INTO audit_events (org_id, number, time, actor, action, subject, agent, decision, reason, \
                 request_id, enclave_id, enclave, chain, seq, hash, line) VALUES {}",
                placeholders(batch.len(), COLUMNS)
            );
            let mut statement = sqlx::query(assembled(sql)).persistent(false);
            for Stored { chain, line, .. } in batch {
                let event = &line.event;
                statement = statement
                    .bind(enclave.org.as_str())
                    .bind(stored(number))
                    .bind(micros(event.time))
                    .bind(clean(&event.actor).into_owned())
                    .bind(clean(&event.action).into_owned())
                    .bind(event.subject.as_deref().map(|text| clean(text).into_owned()))
                    .bind(event.agent.as_deref().map(|text| clean(text).into_owned()))
                    .bind(clean(&event.decision).into_owned())
                    .bind(event.reason.as_deref().map(|text| clean(text).into_owned()))
                    .bind(event.request_id.as_deref().map(|text| clean(text).into_owned()))
                    .bind(enclave.id.as_str())
                    .bind(enclave.name.as_str())
                    .bind(stored(*chain))
                    .bind(stored(line.seq))
                    .bind(line.hash.as_slice())
                    .bind(line.line.as_str());
                number += 1;
            }
            statement.execute(self.connection()).await?;
        }
        Ok(())
    }

    async fn save_chain(&mut self, enclave: &EnclaveId, known: &Known) -> Result<()> {
        sqlx::query(
            "INSERT INTO broker_chains (enclave_id, chain, seq, head) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (enclave_id) DO UPDATE SET chain = excluded.chain, seq = excluded.seq, head = excluded.head",
        )
        .bind(enclave.as_str())
        .bind(stored(known.chain))
        .bind(stored(known.seq))
        .bind(known.head.as_slice())
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
