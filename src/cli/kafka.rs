//! A Kafka client as small as a replay needs it: one connection, one request at a time.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;

use crate::kafka::wire::{ApiKey, ErrorCode, Request, Response, init_producer_id, produce};
use crate::model::Offset;

/// The longest round trip on Earth, several times.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long a broker may wait for the acknowledgement of a batch.
const PRODUCE_MAX: Duration = Duration::from_secs(10);

/// How long an answer may take: longer than the broker waits.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Largest answer: what is asked here is answered in some hundred bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The newest versions without tagged fields.
const PRODUCE_VERSION: i16 = 8;
const INIT_PRODUCER_ID_VERSION: i16 = 1;

pub struct Connection {
    stream: TcpStream,
    address: String,
    correlation_id: i32,
}

impl Connection {
    pub fn open(address: &str) -> anyhow::Result<Self> {
        let resolved = address.to_socket_addrs().with_context(|| format!("look up {address}"))?;
        let mut why = anyhow::anyhow!("{address} is no address");
        for socket in resolved {
            match TcpStream::connect_timeout(&socket, CONNECT_MAX) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(ANSWER_MAX))?;
                    stream.set_write_timeout(Some(ANSWER_MAX))?;
                    return Ok(Self { stream, address: address.to_owned(), correlation_id: 0 });
                }
                Err(error) => why = error.into(),
            }
        }
        Err(why.context(format!("connect to {address}")))
    }

    /// A new producer id and its epoch.
    pub fn producer_id(&mut self) -> anyhow::Result<Result<(i64, i16), ErrorCode>> {
        let request = init_producer_id::Request {
            transaction_timeout_ms: i32::MAX,
            ..init_producer_id::Request::default()
        };
        let asked = Request::InitProducerId(request);
        match self.ask(&asked, ApiKey::InitProducerId, INIT_PRODUCER_ID_VERSION)? {
            Response::InitProducerId(r) if r.error_code == ErrorCode::None => {
                Ok(Ok((r.producer_id, r.producer_epoch)))
            }
            Response::InitProducerId(r) => Ok(Err(r.error_code)),
            _ => self.odd(),
        }
    }

    /// Sends one batch with acks=all; answers with its base offset, -1 if the broker has it already
    /// and does not know where.
    pub fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> anyhow::Result<Result<Offset, ErrorCode>> {
        let data = produce::PartitionProduceData { index: partition, records: Some(batch) };
        let topic_data = vec![produce::TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![data],
            ..produce::TopicProduceData::default()
        }];
        let request = produce::Request {
            acks: -1,
            timeout_ms: PRODUCE_MAX.as_millis() as i32,
            topic_data,
            ..produce::Request::default()
        };
        match self.ask(&Request::Produce(request), ApiKey::Produce, PRODUCE_VERSION)? {
            Response::Produce(response) => {
                let of_topic = response.responses.first();
                match of_topic.and_then(|topic| topic.partition_responses.first()) {
                    Some(r) if r.error_code == ErrorCode::None => Ok(Ok(Offset(r.base_offset))),
                    Some(r) => Ok(Err(r.error_code)),
                    None => self.odd(),
                }
            }
            _ => self.odd(),
        }
    }

    fn odd<T>(&self) -> anyhow::Result<T> {
        anyhow::bail!("{} answered something else: is it a Kafka listener?", self.address)
    }

    fn ask(&mut self, request: &Request, key: ApiKey, version: i16) -> anyhow::Result<Response> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let client = Some("isobar-ledger-replay".to_owned());
        for chunk in request.encode_frame(version, self.correlation_id, client)?.0 {
            self.stream.write_all(&chunk)?;
        }
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).context("no answer")?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        anyhow::ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame).context("half an answer")?;
        let (header, response) = Response::decode_frame(key, version, frame.into())?;
        anyhow::ensure!(
            header.correlation_id == self.correlation_id,
            "an answer to another request"
        );
        Ok(response)
    }
}
