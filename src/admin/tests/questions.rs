//! What one admin room asks another's.

use super::*;

#[tokio::test]
async fn a_question_that_is_not_understood_is_answered_so() {
    for question in [&b"garbage"[..], br#"{"version":9,"question":"load"}"#, br#"{"version":1}"#] {
        let answer = String::from_utf8(ask::answer(&paper(), question).await).unwrap();
        assert!(answer.contains("not_understood"), "{answer}");
    }
}
