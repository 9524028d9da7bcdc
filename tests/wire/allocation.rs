//! What decoding a frame may cost in memory, counted by the allocator: a small multiple of the
//! frame, whatever the frame claims. A binary of its own, since an allocator is global.

#![allow(unsafe_code, reason = "counting allocations takes a global allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use isobar::kafka::wire::{ApiKey, Request, RequestHeader, Response, SERVED};
use proptest::collection::vec;
use proptest::prelude::*;

/// The largest ratio of a structure to its smallest encoding is 32 (a `ListedGroup` of ListGroups 3:
/// 96 bytes from 3), and nested arrays can claim the same bytes once a level.
const MULTIPLE: usize = 64;
/// Reference counts and the like.
const FLAT_BYTES: usize = 1024;

struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    // Not there any more while a thread ends, when nobody counts.
    let _ = ALLOCATED.try_with(|allocated| allocated.set(allocated.get() + bytes));
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes allocated in all while `decode` ran, freed ones too.
fn cost<T>(decode: impl FnOnce() -> T) -> usize {
    let before = ALLOCATED.with(Cell::get);
    let result = decode();
    let after = ALLOCATED.with(Cell::get);
    drop(result);
    after - before
}

fn versions() -> impl Iterator<Item = (ApiKey, i16)> {
    SERVED.iter().flat_map(|r| (r.decodable_min..=r.max).map(|version| (r.key, version)))
}

/// Decodes the body as every request and every response, and holds each to its bound.
fn hold_to_the_bound(body: &[u8]) {
    let bound = MULTIPLE * body.len() + FLAT_BYTES;
    for (api_key, api_version) in versions() {
        let name = api_key.name();
        let header = RequestHeader { api_key, api_version, correlation_id: 1, client_id: None };
        let bytes = Bytes::copy_from_slice(body);
        let spent = cost(|| Request::decode(&header, bytes));
        assert!(spent <= bound, "{name} request v{api_version}: {spent} bytes for {body:?}");
        let bytes = Bytes::copy_from_slice(body);
        let spent = cost(|| Response::decode(api_key, api_version, bytes));
        assert!(spent <= bound, "{name} response v{api_version}: {spent} bytes for {body:?}");
    }
}

#[test]
fn the_allocator_counts() {
    assert!(cost(|| vec![0u8; 4096]) >= 4096);
}

#[test]
fn a_claim_costs_nothing() {
    for claim in [[0x7f, 0xff, 0xff, 0xff], [0, 1, 0, 0], [0, 0, 0, 200], [0xff; 4]] {
        for before in 0..40 {
            // Zeroes are empty strings, zero numbers and empty arrays; ones, in compact form.
            hold_to_the_bound(&[&vec![0; before][..], &claim].concat());
            hold_to_the_bound(&[&vec![1; before][..], &claim].concat());
        }
    }
    for before in 0..40 {
        let compact = [0xff, 0xff, 0xff, 0xff, 0x0f];
        hold_to_the_bound(&[&vec![1; before][..], &compact].concat());
        hold_to_the_bound(&[&vec![0; before][..], &compact].concat());
    }
}

#[test]
fn a_frame_full_of_the_smallest_elements_stays_within_the_bound() {
    for fill in [0u8, 1, 2] {
        for count in [1_000u32, 2_000, 4_000] {
            let mut body = count.to_be_bytes().to_vec();
            body.resize(8_000, fill);
            hold_to_the_bound(&body);
            // 8000 and less as a compact count.
            let mut body = vec![0x80 | (count & 0x7f) as u8, (count >> 7) as u8];
            body.resize(8_000, fill);
            hold_to_the_bound(&body);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_cost_more_than_a_small_multiple_of_themselves(body in vec(any::<u8>(), 0..300)) {
        hold_to_the_bound(&body);
    }

    #[test]
    fn nor_do_bytes_that_look_like_lengths(
        body in vec(prop_oneof![Just(0u8), Just(0), Just(1), Just(2), 0u8..20, any::<u8>()], 0..300),
    ) {
        hold_to_the_bound(&body);
    }
}
