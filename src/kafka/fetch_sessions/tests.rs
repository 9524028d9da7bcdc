use super::*;

fn key(topic: &str, partition: i32) -> Key {
    Key { topic: Topic::Name(topic.into()), partition }
}

fn wanted(partition: i32, offset: i64) -> Wanted {
    let key = key("t", partition);
    Wanted { key, offset, bytes_max: 1 << 20, leader_epoch: -1, last_fetched_epoch: -1 }
}

fn request(session_id: i32, session_epoch: i32, wanted: Vec<Wanted>) -> Request {
    Request { session_id, session_epoch, wanted, forgotten: vec![], by_id: false }
}

fn at(high_watermark: i64, has_records: bool) -> Outcome {
    Outcome { high_watermark, log_start: 0, has_records, is_notable: false }
}

const T0: Duration = Duration::ZERO;

/// A session over `count` partitions, and its id.
fn opened(cache: &mut Cache, count: i32) -> i32 {
    let plan = cache.begin(T0, request(0, 0, (0..count).map(|p| wanted(p, 0)).collect())).unwrap();
    let outcomes = vec![at(0, false); count as usize];
    assert_eq!(cache.finish(&plan, &outcomes), vec![true; count as usize]);
    plan.session_id
}

fn order(plan: &Plan) -> Vec<i32> {
    plan.wanted.iter().map(|w| w.key.partition).collect()
}

#[test]
fn a_full_fetch_without_a_session_leaves_nothing_behind() {
    let mut cache = Cache::new(1);
    let plan = cache.begin(T0, request(0, -1, vec![wanted(0, 5)])).unwrap();
    assert_eq!((plan.session_id, plan.incremental, plan.wanted.len()), (0, false, 1));
    assert_eq!(cache.finish(&plan, &[at(9, false)]), [true]);
    assert!(cache.is_empty());
}

#[test]
fn an_incremental_answer_names_only_what_changed() {
    let mut cache = Cache::new(1);
    let id = opened(&mut cache, 3);
    let plan = cache.begin(T0, request(id, 1, vec![])).unwrap();
    assert_eq!((plan.incremental, order(&plan)), (true, vec![0, 1, 2]));
    let outcomes = [at(0, false), at(7, false), at(7, true)];
    assert_eq!(cache.finish(&plan, &outcomes), [false, true, true]);
}

#[test]
fn an_error_is_said_every_time_and_so_is_its_end() {
    let mut cache = Cache::new(1);
    let id = opened(&mut cache, 1);
    let failed = Outcome { is_notable: true, ..at(0, false) };
    for epoch in 1..=2 {
        let plan = cache.begin(T0, request(id, epoch, vec![])).unwrap();
        assert_eq!(cache.finish(&plan, &[failed]), [true]);
    }
    let plan = cache.begin(T0, request(id, 3, vec![])).unwrap();
    assert_eq!(cache.finish(&plan, &[at(0, false)]), [true]);
    let plan = cache.begin(T0, request(id, 4, vec![])).unwrap();
    assert_eq!(cache.finish(&plan, &[at(0, false)]), [false]);
}

#[test]
fn partitions_with_data_go_to_the_end_of_the_order() {
    let mut cache = Cache::new(1);
    let id = opened(&mut cache, 3);
    let plan = cache.begin(T0, request(id, 1, vec![])).unwrap();
    cache.finish(&plan, &[at(4, true), at(0, false), at(0, false)]);
    let plan = cache.begin(T0, request(id, 2, vec![wanted(0, 4)])).unwrap();
    assert_eq!(order(&plan), [1, 2, 0]);
    assert_eq!(plan.wanted[2].offset, 4);
}

#[test]
fn wanted_forgotten_and_new_partitions_change_the_session() {
    let mut cache = Cache::new(1);
    let id = opened(&mut cache, 2);
    let mut change = request(id, 1, vec![wanted(5, 50)]);
    change.forgotten = vec![key("t", 0), key("t", 99)];
    let plan = cache.begin(T0, change).unwrap();
    assert_eq!(order(&plan), [1, 5]);
    assert_eq!(cache.partitions(), 2);
}

#[test]
fn wrong_sessions_epochs_and_names_are_refused() {
    let mut cache = Cache::new(1);
    let id = opened(&mut cache, 1);
    let other = id.wrapping_add(1);
    assert_eq!(cache.begin(T0, request(other, 1, vec![])), Err(Error::SessionNotFound));
    assert_eq!(cache.begin(T0, request(id, 2, vec![])), Err(Error::SessionEpoch));
    let by_id = Request { by_id: true, ..request(id, 1, vec![]) };
    assert_eq!(cache.begin(T0, by_id), Err(Error::TopicId));
    // None of these used the epoch up.
    assert!(cache.begin(T0, request(id, 1, vec![])).is_ok());
}

#[test]
fn the_epoch_goes_round_to_one() {
    let mut session = Session::new(T0, false, &[wanted(0, 0)]);
    session.next_epoch = i32::MAX;
    session.go_on(T0, vec![], &[]);
    assert_eq!(session.next_epoch, 1);
}

#[test]
fn a_full_cache_gives_no_session_until_an_old_one_may_go() {
    let mut cache = Cache::bounded(1, 2, 100);
    let old = opened(&mut cache, 1);
    opened(&mut cache, 1);
    let full = cache.begin(T0, request(0, 0, vec![wanted(0, 0)])).unwrap();
    assert_eq!(full.session_id, 0);
    let later = cache.begin(EVICTION_MIN, request(0, 0, vec![wanted(0, 0)])).unwrap();
    assert_ne!(later.session_id, 0);
    assert_eq!(cache.begin(EVICTION_MIN, request(old, 1, vec![])), Err(Error::SessionNotFound));
    assert_eq!(cache.len(), 2);
}

#[test]
fn a_session_that_outgrows_the_cache_is_dropped() {
    let mut cache = Cache::bounded(1, 10, 3);
    let id = opened(&mut cache, 3);
    assert_eq!(cache.begin(T0, request(id, 1, vec![wanted(9, 0)])), Err(Error::SessionNotFound));
    assert_eq!((cache.len(), cache.partitions()), (0, 0));
}

#[test]
fn closing_a_session_forgets_it() {
    let mut cache = Cache::new(1);
    let id = opened(&mut cache, 2);
    let plan = cache.begin(T0, request(id, -1, vec![wanted(0, 0)])).unwrap();
    assert_eq!(plan.session_id, 0);
    assert_eq!((cache.len(), cache.partitions()), (0, 0));
}
