//! The UDP socket: bound, with buffers that a WAN needs.

#![allow(unsafe_code, reason = "setsockopt and prctl have no safe wrapper in std")]

use std::io;
use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Once;

use crate::limits::UDP_BUFFER_BYTES;

/// Binds and enlarges the buffers as far as the kernel allows.
pub(crate) fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(addr)?;
    socket.set_nonblocking(true)?;
    let receive = enlarge(&socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF);
    let send = enlarge(&socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF);
    if receive.min(send) < UDP_BUFFER_BYTES {
        warn_once(receive, send);
    }
    Ok(socket)
}

/// Packet release to the nanosecond instead of the default 50 µs; a thread's own setting.
pub(crate) fn precise_timers() {
    // SAFETY: PR_SET_TIMERSLACK takes integers and changes only the calling thread.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0) };
}

/// Past the sysctl limit where we may (CAP_NET_ADMIN), up to it where not. Returns what came of it.
fn enlarge(socket: &UdpSocket, force: libc::c_int, option: libc::c_int) -> usize {
    let bytes = UDP_BUFFER_BYTES as libc::c_int;
    if !set(socket, force, bytes) {
        set(socket, option, bytes);
    }
    // Linux reports twice what was asked for, to account for its own overhead (socket(7)).
    read(socket, option) / 2
}

fn set(socket: &UdpSocket, option: libc::c_int, value: libc::c_int) -> bool {
    // SAFETY: the descriptor is open while `socket` lives, and the pointer and length are those of a c_int.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            mem::size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    result == 0
}

fn read(socket: &UdpSocket, option: libc::c_int) -> usize {
    let mut value: libc::c_int = 0;
    let mut bytes = mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: as in `set`; the kernel writes at most `bytes`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut bytes,
        )
    };
    if result == 0 { usize::try_from(value).unwrap_or(0) } else { 0 }
}

fn warn_once(receive: usize, send: usize) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::warn!(
            receive_bytes = receive,
            send_bytes = send,
            wanted_bytes = UDP_BUFFER_BYTES,
            "UDP buffers are too small for a WAN; run: sysctl -w net.core.rmem_max={UDP_BUFFER_BYTES} net.core.wmem_max={UDP_BUFFER_BYTES}"
        );
    });
}
