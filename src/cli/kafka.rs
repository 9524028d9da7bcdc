//! A cluster's Kafka port, from outside: one partition of one topic, through its leader.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;

use crate::kafka::wire::{ApiKey, ErrorCode, Request, Response};
use crate::kafka::wire::{fetch, init_producer_id, list_offsets, metadata, produce};
use crate::model::{Offset, TopicId, batch};

/// How long to wait for a connection: the longest round trip on Earth, several times.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// What a leader may take for an acknowledgement before it says that it timed out.
const PRODUCE_TIMEOUT_MS: i32 = 10_000;

/// Longer than the longest that a node waits by itself.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// How long to ask again where nobody leads, or who leads cannot take it: a failover, and its leases.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Between two tries.
const RETRY_EVERY: Duration = Duration::from_millis(200);

/// One fetch; a larger batch comes whole all the same (KIP-74).
const FETCH_BYTES: i32 = 4 << 20;

/// Longest answer that is read: a fetch with the largest batch that a node takes.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Versions that know all that is asked for, and name topics by name.
const METADATA_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;
const LIST_OFFSETS_VERSION: i16 = 7;
const PRODUCE_VERSION: i16 = 9;
const INIT_PRODUCER_ID_VERSION: i16 = 4;

/// Of a request that the other side understood and refused.
#[derive(Debug, thiserror::Error)]
#[error("{code}{}", message.as_ref().map(|m| format!(": {m}")).unwrap_or_default())]
pub struct Refused {
    pub code: ErrorCode,
    message: Option<String>,
}

fn accepted(code: ErrorCode, message: Option<String>) -> Result<(), Refused> {
    if code.is_error() { Err(Refused { code, message }) } else { Ok(()) }
}

#[derive(Debug)]
pub struct Partition {
    topic: String,
    partition: i32,
    bootstrap: String,
    /// Where else to ask, once somebody has said so.
    known: Vec<String>,
    leader: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    fn open(address: &str) -> anyhow::Result<Self> {
        let addresses =
            address.to_socket_addrs().with_context(|| format!("resolving {address}"))?;
        let mut failed = anyhow::anyhow!("{address} resolves to nothing");
        for one in addresses {
            match TcpStream::connect_timeout(&one, CONNECT_MAX) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(ANSWER_MAX))?;
                    stream.set_write_timeout(Some(ANSWER_MAX))?;
                    return Ok(Self { stream, correlation_id: 0 });
                }
                Err(error) => failed = anyhow::anyhow!("nobody answers at {address}: {error}"),
            }
        }
        Err(failed)
    }

    fn ask(&mut self, request: impl Into<Request>, version: i16) -> anyhow::Result<Response> {
        let request: Request = request.into();
        let api_key: ApiKey = request.api_key();
        self.correlation_id += 1;
        let client = Some("isobar-ledger".to_owned());
        let frame = request.encode_frame(version, self.correlation_id, client)?;
        self.stream.write_all(&frame.into_bytes())?;
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).context("no answer: is it a Kafka port?")?;
        let size = usize::try_from(i32::from_be_bytes(size)).unwrap_or(usize::MAX);
        anyhow::ensure!(size <= ANSWER_BYTES_MAX, "an answer of {size} bytes: is it a Kafka port?");
        let mut frame = vec![0; size];
        self.stream.read_exact(&mut frame)?;
        let (header, response) = Response::decode_frame(api_key, version, frame.into())?;
        anyhow::ensure!(
            header.correlation_id == self.correlation_id,
            "an answer to another request"
        );
        Ok(response)
    }
}

/// Whether the same may go well a moment later.
fn is_passing(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<Refused>() {
        Some(refused) => refused.code.is_retriable(),
        None => error.chain().any(|cause| cause.is::<std::io::Error>()),
    }
}

impl Partition {
    /// Of the topic of that name, which must be the topic of that id.
    pub fn open(bootstrap: &str, topic: &str, id: TopicId, partition: i32) -> anyhow::Result<Self> {
        let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
        let mut one = Self { topic, partition, bootstrap, known: Vec::new(), leader: None };
        let found = one.metadata(&one.bootstrap.clone()).with_context(|| {
            format!(
                "asking {} for its topics; --bootstrap names the Kafka port of any node",
                one.bootstrap
            )
        })?;
        let there = found.topics.first().context("an answer without the topic")?;
        anyhow::ensure!(
            there.error_code != ErrorCode::UnknownTopicOrPartition,
            "topic {} is not there: deleted, or of another cluster. `isobar ledger export` writes its records",
            one.topic
        );
        anyhow::ensure!(
            there.error_code.is_error() || there.topic_id == id,
            "topic {} is another one now: its uuid is {}, that of the suffix {id}. `isobar ledger export` writes its records",
            one.topic,
            there.topic_id
        );
        Ok(one)
    }

    fn metadata(&mut self, address: &str) -> anyhow::Result<metadata::Response> {
        let topic =
            metadata::MetadataRequestTopic { name: Some(self.topic.clone()), ..Default::default() };
        let request = metadata::Request {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        match Connection::open(address)?.ask(request, METADATA_VERSION)? {
            Response::Metadata(found) => {
                self.known =
                    found.brokers.iter().map(|b| format!("{}:{}", b.host, b.port)).collect();
                Ok(found)
            }
            _ => unreachable!("an answer is decoded as that of its request"),
        }
    }

    /// Finds the leader, by the first node that knows one.
    fn find_leader(&mut self) -> anyhow::Result<Connection> {
        let mut failed = None;
        let addresses: Vec<String> =
            [self.bootstrap.clone()].into_iter().chain(self.known.clone()).collect();
        for address in addresses {
            match self.ask_for_leader(&address) {
                Ok(leader) => return Ok(leader),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.expect("there is one address at least"))
    }

    fn ask_for_leader(&mut self, address: &str) -> anyhow::Result<Connection> {
        let found = self.metadata(address)?;
        let topic = found.topics.first().context("an answer without the topic")?;
        accepted(topic.error_code, None)?;
        let partition = topic.partitions.iter().find(|p| p.partition_index == self.partition);
        let partition = partition
            .with_context(|| format!("{} has no partition {}", self.topic, self.partition))?;
        accepted(partition.error_code, None)?;
        let leader = found.brokers.iter().find(|b| b.node_id == partition.leader_id);
        let leader =
            leader.ok_or(Refused { code: ErrorCode::LeaderNotAvailable, message: None })?;
        Connection::open(&format!("{}:{}", leader.host, leader.port))
    }

    /// Asks the leader until it answers well, or refuses for good.
    fn with_leader<T>(
        &mut self,
        mut ask: impl FnMut(&mut Connection, &str, i32) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let began = Instant::now();
        loop {
            let leader = match self.leader.take() {
                Some(leader) => Ok(leader),
                None => self.find_leader(),
            };
            let answered = leader.and_then(|mut leader| {
                let answer = ask(&mut leader, &self.topic, self.partition)?;
                self.leader = Some(leader);
                Ok(answer)
            });
            match answered {
                Err(error) if is_passing(&error) && began.elapsed() < RETRY_MAX => {
                    std::thread::sleep(RETRY_EVERY); // tidy: nobody tells a client who leads now
                }
                answered => {
                    let (topic, partition) = (&self.topic, self.partition);
                    return answered
                        .with_context(|| format!("asking the leader of {topic}-{partition}"));
                }
            }
        }
    }

    fn offset(&mut self, timestamp: i64) -> anyhow::Result<Offset> {
        self.with_leader(|leader, topic, partition| {
            let asked = list_offsets::ListOffsetsPartition {
                partition_index: partition,
                timestamp,
                ..Default::default()
            };
            let asked =
                list_offsets::ListOffsetsTopic { name: topic.to_owned(), partitions: vec![asked] };
            let request = list_offsets::Request { topics: vec![asked], ..Default::default() };
            let Response::ListOffsets(answer) = leader.ask(request, LIST_OFFSETS_VERSION)? else {
                unreachable!("an answer is decoded as that of its request")
            };
            let found = answer.topics.first().and_then(|t| t.partitions.first());
            let found = found.context("an answer without the partition")?;
            accepted(found.error_code, None)?;
            Ok(Offset(found.offset))
        })
    }

    /// The log start and the high watermark.
    pub fn bounds(&mut self) -> anyhow::Result<(Offset, Offset)> {
        Ok((
            self.offset(list_offsets::EARLIEST_TIMESTAMP)?,
            self.offset(list_offsets::LATEST_TIMESTAMP)?,
        ))
    }

    /// Shows every batch with an offset from `from` on and before `end`, the high watermark or below.
    pub fn read(
        &mut self,
        from: Offset,
        end: Offset,
        mut each: impl FnMut(&Bytes) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut next = from;
        while next < end {
            let at = next;
            let bytes =
                self.with_leader(|leader, topic, partition| fetch(leader, topic, partition, at))?;
            for batch in batch::split(bytes) {
                // The last one of an answer may be cut off.
                let Ok(batch) = batch else { break };
                let header = batch::check(&batch)?;
                if header.next_offset() > next {
                    each(&batch)?;
                    next = header.next_offset();
                }
            }
            anyhow::ensure!(
                next > at,
                "the leader shows nothing at offset {at}, and an end of {end}"
            );
        }
        Ok(())
    }

    /// A producer id of its own, and its epoch.
    pub fn init_producer_id(&mut self) -> anyhow::Result<(i64, i16)> {
        self.with_leader(|leader, _, _| {
            let request = init_producer_id::Request::default();
            let Response::InitProducerId(answer) = leader.ask(request, INIT_PRODUCER_ID_VERSION)?
            else {
                unreachable!("an answer is decoded as that of its request")
            };
            accepted(answer.error_code, None)?;
            Ok((answer.producer_id, answer.producer_epoch))
        })
    }

    /// Produces one batch with acks=all, as often as it takes: its sequences make it one. Its base offset.
    pub fn produce(&mut self, batch: &Bytes) -> anyhow::Result<Offset> {
        self.with_leader(|leader, topic, partition| {
            let data =
                produce::PartitionProduceData { index: partition, records: Some(batch.clone()) };
            let data = produce::TopicProduceData {
                name: topic.to_owned(),
                partition_data: vec![data],
                ..Default::default()
            };
            let request = produce::Request {
                acks: -1,
                timeout_ms: PRODUCE_TIMEOUT_MS,
                topic_data: vec![data],
                ..Default::default()
            };
            let Response::Produce(answer) = leader.ask(request, PRODUCE_VERSION)? else {
                unreachable!("an answer is decoded as that of its request")
            };
            let found = answer.responses.first().and_then(|t| t.partition_responses.first());
            let found = found.context("an answer without the partition")?;
            accepted(found.error_code, found.error_message.clone())?;
            Ok(Offset(found.base_offset))
        })
    }
}

fn fetch(
    leader: &mut Connection,
    topic: &str,
    partition: i32,
    at: Offset,
) -> anyhow::Result<Bytes> {
    let asked = fetch::FetchPartition {
        partition,
        fetch_offset: at.0,
        partition_max_bytes: FETCH_BYTES,
        ..Default::default()
    };
    let asked = fetch::FetchTopic {
        topic: topic.to_owned(),
        partitions: vec![asked],
        ..Default::default()
    };
    let request = fetch::Request {
        max_wait_ms: 1000,
        min_bytes: 1,
        max_bytes: FETCH_BYTES,
        topics: vec![asked],
        ..Default::default()
    };
    let Response::Fetch(answer) = leader.ask(request, FETCH_VERSION)? else {
        unreachable!("an answer is decoded as that of its request")
    };
    accepted(answer.error_code, None)?;
    let found = answer.responses.into_iter().next().and_then(|t| t.partitions.into_iter().next());
    let found = found.context("an answer without the partition")?;
    accepted(found.error_code, None)?;
    Ok(found.records.unwrap_or_default().into_bytes())
}
