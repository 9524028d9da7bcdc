use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{Notify, oneshot};

use super::*;
use crate::replica::core::config::UNGATED_BYTES_MAX;

/// A service whose requests are one byte of command and what it echoes. It notes in which order
/// requests were begun.
#[derive(Default)]
struct Script {
    begun: Mutex<Vec<u8>>,
    /// Lets the next `w` request go on.
    go: Arc<Notify>,
}

impl Service for Script {
    fn begin(&self, session: &mut Arc<Session>, frame: Bytes) -> Result<Answer, Refusal> {
        let tag = frame.last().copied().unwrap_or(0);
        self.begun.lock().unwrap().push(tag);
        let go = self.go.clone();
        let reply = Reply {
            chunks: vec![frame.slice(..1), Bytes::new(), frame.slice(1..)],
            held: Vec::new(),
        };
        match frame[0] {
            b'n' => Ok(Box::pin(async { Ok(Some(reply)) })),
            b'w' => Ok(Box::pin(async move {
                go.notified().await;
                Ok(Some(reply))
            })),
            b'h' => {
                let session = session.clone();
                Ok(Box::pin(async move {
                    session.next_request().await;
                    Ok(Some(reply))
                }))
            }
            b'0' => Ok(Box::pin(async { Ok(None) })),
            b'p' => Ok(Box::pin(async {
                tokio::task::yield_now().await;
                panic!("a handler's fault")
            })),
            b'l' => Ok(Box::pin(async {
                tokio::task::yield_now().await;
                Err(Refusal::Unacknowledged)
            })),
            _ => Err(wire::Error::from(wire::Fault::UnknownApi(99)).into()),
        }
    }
}

struct Peer {
    socket: DuplexStream,
    service: Arc<Script>,
    shutdown: watch::Sender<bool>,
    closed: oneshot::Receiver<Closed>,
}

fn connect(buffer_bytes: usize) -> Peer {
    connect_with(buffer_bytes, Room::default())
}

fn connect_with(buffer_bytes: usize, room: Room) -> Peer {
    let (socket, theirs) = tokio::io::duplex(buffer_bytes);
    let (read, write) = tokio::io::split(theirs);
    let service = Arc::<Script>::default();
    let (shutdown, down) = watch::channel(false);
    let (done, closed) = oneshot::channel();
    let session = Session::new("clients".into(), SocketAddr::from(([127, 0, 0, 1], 9)));
    let serving = serve(read, write, session, service.clone(), room, down);
    tokio::spawn(async move { done.send(serving.await).unwrap_or(()) });
    Peer { socket, service, shutdown, closed }
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes()[..], body].concat()
}

impl Peer {
    async fn send(&mut self, body: &[u8]) {
        self.socket.write_all(&frame(body)).await.unwrap();
    }

    async fn expect(&mut self, answer: &[u8]) {
        let mut got = vec![0; answer.len()];
        self.socket.read_exact(&mut got).await.unwrap();
        assert_eq!(got, answer);
    }

    async fn begun(&self, count: usize) {
        while self.service.begun.lock().unwrap().len() < count {
            tokio::task::yield_now().await;
        }
    }

    async fn ends(mut self) -> Closed {
        let mut rest = Vec::new();
        self.socket.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"", "nothing may follow");
        self.closed.await.unwrap()
    }
}

#[tokio::test]
async fn an_answer_that_may_be_held_back_leaves_before_the_next_request_is_begun() {
    let mut peer = connect(1024);
    for body in [b"n1", b"h2"] {
        peer.send(body).await;
    }
    peer.expect(b"n1").await;
    peer.begun(2).await;
    for body in [b"h3", b"n4"] {
        peer.send(body).await;
        peer.expect(&[b'h', body[1] - 1]).await;
    }
    peer.expect(b"n4").await;
}

#[tokio::test]
async fn answers_leave_in_request_order_though_later_ones_are_ready_first() {
    let mut peer = connect(1024);
    for body in [b"w1", b"n2", b"n3"] {
        peer.send(body).await;
    }
    // All three are being processed while the first still waits.
    peer.begun(3).await;
    peer.service.go.notify_one();
    peer.expect(b"w1n2n3").await;
}

#[tokio::test]
async fn a_request_that_asks_for_no_answer_gets_none() {
    let mut peer = connect(1024);
    for body in [b"01", b"n2", b"03", b"n4"] {
        peer.send(body).await;
    }
    peer.expect(b"n2n4").await;
}

#[tokio::test]
async fn lengths_that_no_frame_has_close_the_connection() {
    for length in [0, -1, i32::MIN, FRAME_BYTES_MAX as i32 + 1, i32::MAX] {
        let mut peer = connect(1024);
        peer.socket.write_all(&length.to_be_bytes()).await.unwrap();
        assert!(matches!(peer.ends().await, Closed::FrameLength(l) if l == length), "{length}");
    }
}

#[tokio::test]
async fn a_frame_in_single_bytes_is_a_frame() {
    let mut peer = connect(1);
    let (mut read, mut write) = tokio::io::split(peer.socket);
    let sending = tokio::spawn(async move {
        for byte in frame(b"n one byte at a time") {
            write.write_all(&[byte]).await.unwrap();
        }
        write
    });
    let mut got = vec![0; 20];
    read.read_exact(&mut got).await.unwrap();
    assert_eq!(got, b"n one byte at a time");
    peer.socket = read.unsplit(sending.await.unwrap());
    drop(peer.socket);
    assert!(matches!(peer.closed.await.unwrap(), Closed::ByPeer));
}

#[tokio::test]
async fn a_frame_larger_than_its_first_step_arrives_whole() {
    let mut peer = connect(1 << 16);
    let mut body = vec![7u8; 3 * FRAME_STEP_BYTES + 5];
    body[0] = b'n';
    let (mut read, mut write) = tokio::io::split(peer.socket);
    let sent = frame(&body);
    let sending = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write
    });
    let mut got = vec![0; body.len()];
    read.read_exact(&mut got).await.unwrap();
    assert_eq!(got, body);
    peer.socket = read.unsplit(sending.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_does_not_come_in_time_closes_the_connection() {
    let mut peer = connect(1024);
    peer.socket.write_all(&frame(b"n half of it")[..9]).await.unwrap();
    let Closed::FrameDeadline { length: 12, received: 5 } = peer.ends().await else {
        panic!("another end")
    };
}

#[tokio::test(start_paused = true)]
async fn half_a_length_is_no_idle_connection() {
    let mut peer = connect(1024);
    let before = tokio::time::Instant::now();
    peer.socket.write_all(&[0, 0]).await.unwrap();
    assert!(matches!(peer.ends().await, Closed::FrameDeadline { .. }));
    assert!(before.elapsed() < IDLE_MAX);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_but_not_one_that_waits_for_an_answer() {
    let mut waiting = connect(1024);
    waiting.send(b"w1").await;
    let idle = connect(1024);
    assert!(matches!(idle.ends().await, Closed::Idle));
    waiting.service.go.notify_one();
    waiting.expect(b"w1").await;
}

#[tokio::test]
async fn what_a_refused_request_follows_is_still_answered() {
    let mut peer = connect(1024);
    for body in [b"w1", b"?2", b"n3"] {
        peer.send(body).await;
    }
    peer.begun(2).await;
    peer.service.go.notify_one();
    peer.expect(b"w1").await;
    assert!(matches!(peer.ends().await, Closed::Refused(Refusal::Wire(_))));
}

#[tokio::test]
async fn a_late_refusal_and_a_panic_close_only_their_connection() {
    let mut peer = connect(1024);
    peer.send(b"l1").await;
    assert!(matches!(peer.ends().await, Closed::Refused(Refusal::Unacknowledged)));
    let mut peer = connect(1024);
    peer.send(b"p1").await;
    assert!(matches!(peer.ends().await, Closed::Panicked));
}

#[tokio::test]
async fn requests_in_flight_are_bounded_and_the_rest_wait_in_the_socket() {
    let mut peer = connect(1 << 20);
    for _ in 0..IN_FLIGHT_REQUESTS_MAX + 50 {
        peer.send(b"w1").await;
    }
    peer.begun(IN_FLIGHT_REQUESTS_MAX).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    // The writer holds one answer beside the full queue.
    assert!(peer.service.begun.lock().unwrap().len() <= IN_FLIGHT_REQUESTS_MAX + 1);
    for _ in 0..IN_FLIGHT_REQUESTS_MAX + 50 {
        peer.service.go.notify_one();
        peer.expect(b"w1").await;
    }
}

/// A producer that sends more than the disks take must wait. Were it refused, what it has sent behind would overtake.
#[tokio::test]
async fn a_connection_has_half_of_what_a_partition_takes_and_a_larger_frame_comes_alone() {
    const { assert!(2 * IN_FLIGHT_BYTES_MAX <= UNGATED_BYTES_MAX) };
    let mut peer = connect(IN_FLIGHT_BYTES_MAX * 2);
    let large = vec![b'w'; IN_FLIGHT_BYTES_MAX + 1];
    let half = vec![b'w'; IN_FLIGHT_BYTES_MAX / 2];
    peer.send(&large).await;
    for _ in 0..3 {
        peer.send(b"w").await;
    }
    peer.begun(1).await;
    let stays_at = async |peer: &Peer, count| {
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(peer.service.begun.lock().unwrap().len(), count);
    };
    stays_at(&peer, 1).await;
    peer.service.go.notify_one();
    peer.expect(&large).await;
    peer.begun(4).await;
    // Three bytes are in flight: one half fits beside them, two do not.
    peer.send(&half).await;
    peer.begun(5).await;
    peer.send(&half).await;
    stays_at(&peer, 5).await;
    for _ in 0..3 {
        peer.service.go.notify_one();
        peer.expect(b"w").await;
    }
    peer.begun(6).await;
}

#[tokio::test(start_paused = true)]
async fn without_room_on_the_node_a_frame_waits_until_its_deadline() {
    let room = Room::new(100);
    let mut first = connect_with(1024, room.clone());
    first.send(&[b'w'; 90]).await;
    first.begun(1).await;
    let mut second = connect_with(1024, room);
    second.send(&[b'n'; 90]).await;
    assert!(matches!(second.ends().await, Closed::FrameDeadline { length: 90, received: 0 }));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_answers_in_flight_leave() {
    let mut peer = connect(1024);
    peer.send(b"w1").await;
    peer.begun(1).await;
    peer.shutdown.send(true).unwrap();
    peer.service.go.notify_one();
    peer.expect(b"w1").await;
    assert!(matches!(peer.ends().await, Closed::ShuttingDown));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_no_answer_for_ever() {
    let mut peer = connect(1024);
    peer.send(b"w1").await;
    peer.begun(1).await;
    peer.shutdown.send(true).unwrap();
    assert!(matches!(peer.ends().await, Closed::ShuttingDown));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_answer_is_dropped() {
    let mut peer = connect(16);
    peer.send(b"n a long answer into a small pipe").await;
    let Closed::WriteStalled = peer.closed.await.unwrap() else { panic!("another end") };
}

/// Two requests that queue for one inbox with no room: the order in which they were sent is the
/// order in which the inbox gets them, whatever tokio polls first.
#[tokio::test]
async fn what_requests_send_is_in_request_order_even_when_the_inbox_is_full() {
    struct Inbox(mpsc::Sender<u8>);
    impl Service for Inbox {
        fn begin(&self, _: &mut Arc<Session>, frame: Bytes) -> Result<Answer, Refusal> {
            let inbox = self.0.clone();
            Ok(Box::pin(async move {
                inbox.send(frame[0]).await.expect("the inbox is open");
                Ok(None)
            }))
        }
    }
    let (inbox, mut received) = mpsc::channel(1);
    let (mut socket, theirs) = tokio::io::duplex(4096);
    let (read, write) = tokio::io::split(theirs);
    let (_up, down) = watch::channel(false);
    let session = Session::new("clients".into(), SocketAddr::from(([127, 0, 0, 1], 9)));
    let service = Arc::new(Inbox(inbox));
    tokio::spawn(serve(read, write, session, service, Room::default(), down));
    for tag in 0..200 {
        socket.write_all(&frame(&[tag])).await.unwrap();
    }
    for tag in 0..200 {
        assert_eq!(received.recv().await, Some(tag));
        tokio::task::yield_now().await;
    }
}
