//! Nodes over one log in memory. What is committed is what every replica of a real one would have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use super::super::log::{AppendError, FollowError, Position};
use super::super::*;
use crate::metadata::command::Command;
use crate::metadata::fixture::{n, text, topology};
use crate::model::LeaderEpoch;
use crate::model::batch::{self, Header};
use crate::model::record::Record;
use crate::replica::ProduceError;

#[derive(Debug, Clone, Default)]
struct State {
    batches: Vec<Bytes>,
    log_start: i64,
    log_end: i64,
    high_watermark: i64,
    leader: Option<NodeId>,
    epoch: i32,
    holds_commits: bool,
    forgets_next_answer: bool,
    /// Nodes whose high watermark stands still.
    frozen: BTreeMap<NodeId, i64>,
    /// Nodes that sleep, and what they know.
    asleep: BTreeMap<NodeId, Position>,
    /// Nodes that have heard of another leader than there is.
    beliefs: BTreeMap<NodeId, NodeId>,
}

impl State {
    fn place(&mut self, batch: &[u8]) -> Offset {
        let mut placed = BytesMut::from(batch);
        let base = Offset(self.log_end);
        batch::place(&mut placed, base, self.epoch);
        self.log_end = batch::check(&placed).expect("a batch").next_offset().0;
        self.batches.push(placed.freeze());
        if !self.holds_commits {
            self.high_watermark = self.log_end;
        }
        base
    }
}

#[derive(Clone)]
struct Shared(Arc<watch::Sender<State>>);

/// One node's view of the log.
struct View {
    node: NodeId,
    shared: Shared,
}

impl View {
    fn of(&self, state: &State) -> Position {
        if let Some(known) = state.asleep.get(&self.node) {
            return *known;
        }
        let frozen = state.frozen.get(&self.node).copied();
        Position {
            is_leader: state.leader == Some(self.node),
            leader_epoch: state.epoch,
            log_start: Offset(state.log_start),
            high_watermark: Offset(frozen.unwrap_or(state.high_watermark)),
            watermark_known: true,
            log_end: Offset(state.log_end),
        }
    }
}

impl Log for View {
    fn position(&self) -> Option<Position> {
        Some(self.of(&self.shared.0.borrow()))
    }

    async fn moved_from(&self, seen: Option<Position>) {
        let mut states = self.shared.0.subscribe();
        let _ = states.wait_for(|state| Some(self.of(state)) != seen).await;
    }

    async fn read(&self, from: Offset) -> Result<Vec<Bytes>, FollowError> {
        let state = self.shared.0.borrow();
        if from.0 < state.log_start {
            return Err(FollowError::Gone);
        }
        let limit = self.of(&state).high_watermark;
        let within = state.batches.iter().filter(|batch| {
            let header = Header::parse(batch).expect("a batch");
            header.next_offset() > from && header.next_offset() <= limit
        });
        Ok(within.take(100).cloned().collect())
    }

    async fn append(&self, batches: Vec<Bytes>, timeout: Duration) -> Result<Offset, AppendError> {
        let mut appended = Err(AppendError::Nothing(ProduceError::NotLeader));
        self.shared.0.send_modify(|state| {
            if state.leader != Some(self.node) {
                return;
            }
            let bases: Vec<Offset> = batches.iter().map(|batch| state.place(batch)).collect();
            appended = Ok((bases[0], state.log_end));
            if std::mem::take(&mut state.forgets_next_answer) {
                appended = Err(AppendError::Unknown(ProduceError::TimedOut));
            }
        });
        let (base, end) = appended?;
        let mut states = self.shared.0.subscribe();
        let committed = states.wait_for(|state| state.high_watermark >= end);
        match tokio::time::timeout(timeout, committed).await {
            Ok(_) => Ok(base),
            Err(_) => Err(AppendError::Unknown(ProduceError::TimedOut)),
        }
    }

    async fn confirm(&self, _: Duration) -> Result<LeaderEpoch, ProduceError> {
        let state = self.shared.0.borrow();
        let leads = state.leader == Some(self.node);
        leads.then_some(state.epoch).ok_or(ProduceError::NotLeader)
    }

    async fn start_at(&self, offset: Offset) -> Result<(), AppendError> {
        self.shared.0.send_modify(|state| {
            state.log_start = offset.0;
            let gone =
                |batch: &Bytes| Header::parse(batch).expect("a batch").next_offset() <= offset;
            state.batches.retain(|batch| !gone(batch));
        });
        Ok(())
    }

    fn leader(&self) -> Option<NodeId> {
        let state = self.shared.0.borrow();
        state.beliefs.get(&self.node).copied().or(state.leader)
    }
}

type Handles = Arc<Mutex<BTreeMap<NodeId, Arc<OnceLock<Handle>>>>>;

/// Calls of one node to the others.
struct Calls(NodeId, Handles);

impl Forward for Calls {
    async fn call(
        &self,
        to: NodeId,
        request: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, ForwardError> {
        let handle = self.1.lock().unwrap().get(&to).and_then(|handle| handle.get().cloned());
        let handle = handle.ok_or(ForwardError::NotSent(to))?;
        handle.serve(self.0, &request, timeout).await.map_err(|_| ForwardError::Lost(to))
    }
}

pub struct Cluster {
    shared: Shared,
    handles: Handles,
    nodes: BTreeMap<NodeId, (Handle, Running)>,
}

impl Cluster {
    /// Nodes 1 to `count`, without a leader.
    pub fn start(count: u64) -> Self {
        let shared = Shared(Arc::new(watch::Sender::new(State::default())));
        let mut cluster = Self { shared, handles: Handles::default(), nodes: BTreeMap::new() };
        (1..=count).for_each(|id| cluster.add_node(id));
        cluster
    }

    pub fn add_node(&mut self, id: u64) {
        let node = n(id);
        let mut topics = 0u8;
        let options = Options {
            node,
            own_topology: topology(&text()).into(),
            cluster_id: format!("cluster-of-{id}"),
            founders: BTreeMap::new(),
            live: Box::new(|| (1..=9).map(n).collect::<BTreeSet<_>>()),
            new_topic_id: Box::new(move || {
                topics += 1;
                let mut bytes = [id as u8; 16];
                bytes[15] = topics;
                TopicId(bytes)
            }),
            now_ms: Box::new(|| 1),
        };
        let view = View { node, shared: self.shared.clone() };
        let (handle, running) = start(view, Calls(node, self.handles.clone()), options);
        let known = Arc::new(OnceLock::from(handle.clone()));
        self.handles.lock().unwrap().insert(node, known);
        self.nodes.insert(node, (handle, running));
    }

    pub fn handle(&self, id: u64) -> &Handle {
        &self.nodes[&n(id)].0
    }

    pub fn running(&mut self, id: u64) -> &mut Running {
        &mut self.nodes.get_mut(&n(id)).unwrap().1
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.shared.0.send_modify(change);
    }

    pub fn elect(&self, id: u64) {
        self.change(|state| {
            state.leader = Some(n(id));
            state.epoch += 1;
        });
    }

    pub fn believes(&self, id: u64, leader: u64) {
        self.change(|state| state.beliefs.extend([(n(id), n(leader))]));
    }

    /// It leads, and hears of nothing from here on.
    pub fn falls_asleep(&self, id: u64) {
        let view = View { node: n(id), shared: self.shared.clone() };
        self.change(|state| {
            let known = view.of(state);
            state.asleep.extend([(n(id), known)]);
            state.beliefs.extend([(n(id), n(id))]);
        });
    }

    pub fn freeze(&self, id: u64) {
        self.change(|state| state.frozen.extend([(n(id), state.high_watermark)]));
    }

    /// From now on what is appended is not committed.
    pub fn hold_commits(&self) {
        self.change(|state| state.holds_commits = true);
    }

    pub fn commit(&self) {
        self.change(|state| {
            state.holds_commits = false;
            state.high_watermark = state.log_end;
        });
    }

    /// The next append happens, and whoever made it never hears of it.
    pub fn forget_next_answer(&self) {
        self.change(|state| state.forgets_next_answer = true);
    }

    pub fn append_raw(&self, value: &'static [u8]) -> Offset {
        self.append(vec![Record { key: None, value: Some(Bytes::from_static(value)) }])
    }

    pub fn append_many(&self, command: &Command, count: usize) {
        self.append(vec![Record { key: None, value: Some(command.encode()) }; count]);
    }

    fn append(&self, records: Vec<Record>) -> Offset {
        let mut at = Offset::ZERO;
        self.change(|state| at = state.place(&record::build(&records, 1)));
        at
    }

    pub async fn log_start_moves(&self) {
        let mut states = self.shared.0.subscribe();
        let moved = states.wait_for(|state| state.log_start > 0);
        tokio::time::timeout(super::LONG, moved).await.expect("in time").expect("it runs");
    }
}
