use proptest::prelude::*;

use super::*;

fn uid(number: usize) -> Uid {
    Uid::parse(&format!("1.2.840.99999.{number}")).unwrap()
}

fn failure(number: usize, reason: Reason) -> SubOperation {
    SubOperation::Failed {
        instance: uid(number),
        reason,
    }
}

const REASONS: [Reason; 15] = [
    Reason::AskAgain(Timestamp(1_795_568_999_000_000)),
    Reason::Delivered(Timestamp(1_795_568_999_000_000)),
    Reason::OverBudget,
    Reason::RestoreFailed,
    Reason::Archived {
        tier: "DEEP_ARCHIVE_ACCESS",
    },
    Reason::Archived { tier: "ARCHIVE_ACCESS" },
    Reason::ColdDown,
    Reason::Damaged,
    Reason::Unreachable,
    Reason::Local,
    Reason::NotAccepted,
    Reason::NotTranscoded,
    Reason::Refused(Status::OutOfResources),
    Reason::Refused(Status::Other(0xc123)),
    Reason::NoAssociation,
];

fn operations() -> impl Strategy<Value = Vec<SubOperation>> {
    let one = prop_oneof![
        3 => Just(0usize),
        1 => Just(1usize),
        2 => 2..2 + REASONS.len(),
    ];
    // Runs of one kind are as likely as mixtures: their status differs.
    let any = prop::collection::vec(one.clone(), 0..40);
    let same = (one, 0usize..40).prop_map(|(kind, number)| vec![kind; number]);
    prop_oneof![any, same].prop_map(|kinds| {
        let operation = |(number, kind): (usize, usize)| match kind {
            0 => SubOperation::Completed,
            1 => SubOperation::Warning,
            kind => failure(number, REASONS[kind - 2]),
        };
        kinds.into_iter().enumerate().map(operation).collect()
    })
}

fn count(operations: &[SubOperation], label: &str) -> usize {
    operations.iter().filter(|operation| operation.label() == label).count()
}

fn sum(counts: SubOperationCounts) -> usize {
    [counts.remaining, counts.completed, counts.failed, counts.warning]
        .map(usize::from)
        .iter()
        .sum()
}

proptest! {
    #[test]
    fn an_instance_is_in_exactly_one_column_at_any_time(operations in operations(), unsent in 0usize..5) {
        let planned = operations.len() + unsent;
        let mut books = SubOperations::new(planned);
        prop_assert_eq!(usize::from(books.counts().remaining), planned);
        for (sent, operation) in operations.iter().enumerate() {
            books.record(operation.clone());
            let so_far = &operations[..=sent];
            let counts = books.counts();
            prop_assert_eq!(sum(counts), planned);
            prop_assert_eq!(usize::from(counts.remaining), planned - so_far.len());
            prop_assert_eq!(usize::from(counts.completed), count(so_far, "completed"));
            prop_assert_eq!(usize::from(counts.warning), count(so_far, "warning"));
            prop_assert_eq!(usize::from(counts.failed), count(so_far, "failed"));
        }
    }

    #[test]
    fn every_mixture_ends_in_the_status_of_the_standard(operations in operations()) {
        let mut books = SubOperations::new(operations.len());
        operations.iter().cloned().for_each(|operation| {
            books.record(operation);
        });
        let conclusion = books.conclude(End::Complete);
        let all = |label| !operations.is_empty() && count(&operations, label) == operations.len();
        let expected = if operations.is_empty() || all("completed") {
            Status::Success
        } else if all("failed") {
            Status::CannotPerformSubOperations
        } else {
            Status::WarningSubOperations
        };
        prop_assert_eq!(conclusion.status, expected);
        prop_assert_eq!(sum(conclusion.counts), operations.len());
        prop_assert_eq!(conclusion.counts.remaining, 0);
        let failed: Vec<Uid> = operations.iter().filter_map(|operation| match operation {
            SubOperation::Failed { instance, .. } => Some(instance.clone()),
            _ => None,
        }).collect();
        prop_assert_eq!(conclusion.failed, failed);
        prop_assert_eq!(conclusion.comment.is_some(), expected != Status::Success);
    }

    #[test]
    fn what_was_never_heard_of_again_has_failed(operations in operations(), unsent in 1usize..5) {
        let planned = operations.len() + unsent;
        let mut books = SubOperations::new(planned);
        operations.iter().cloned().for_each(|operation| {
            books.record(operation);
        });
        let conclusion = books.conclude(End::Complete);
        prop_assert_ne!(conclusion.status, Status::Success);
        prop_assert_eq!(usize::from(conclusion.counts.failed), count(&operations, "failed") + unsent);
        prop_assert_eq!(sum(conclusion.counts), planned);
    }

    #[test]
    fn a_cancel_tells_what_was_not_tried(operations in operations(), unsent in 0usize..5) {
        let planned = operations.len() + unsent;
        let mut books = SubOperations::new(planned);
        operations.iter().cloned().for_each(|operation| {
            books.record(operation);
        });
        let conclusion = books.conclude(End::Cancelled);
        prop_assert_eq!(conclusion.status, Status::Cancel);
        prop_assert_eq!(usize::from(conclusion.counts.remaining), unsent);
        prop_assert_eq!(sum(conclusion.counts), planned);
        prop_assert_eq!(conclusion.failed.len(), count(&operations, "failed"));
    }

    #[test]
    fn a_comment_fits_its_element(operations in operations(), copies in 1u64..1_000_000_000) {
        let mut books = SubOperations::new(operations.len());
        for operation in operations {
            if let SubOperation::Failed { reason, .. } = &operation {
                books.fail(*reason, copies);
            }
            books.record(operation);
        }
        let comment = books.conclude(End::Complete).comment.unwrap_or_default();
        prop_assert!(comment.is_ascii() && comment.len() <= MAX_COMMENT, "{comment:?} has {}", comment.len());
    }
}

#[test]
fn nothing_matched_is_success_with_zeros() {
    let conclusion = SubOperations::new(0).conclude(End::Complete);
    assert_eq!(conclusion.status, Status::Success);
    assert_eq!(conclusion.counts, SubOperationCounts::default());
    assert_eq!((conclusion.comment, conclusion.failed), (None, Vec::new()));
}

#[test]
fn the_comment_begins_with_the_most_frequent_reason() {
    let mut books = SubOperations::new(315);
    books.record(failure(0, Reason::Damaged));
    for number in 1..313 {
        let tier = "DEEP_ARCHIVE_ACCESS";
        books.record(failure(number, Reason::Archived { tier }));
    }
    books.record(failure(313, Reason::Refused(Status::OutOfResources)));
    books.record(failure(314, Reason::Refused(Status::CannotUnderstand)));
    let conclusion = books.conclude(End::Complete);
    let comment = conclusion.comment.unwrap();
    assert_eq!(comment, "312 archived in DEEP_ARCHIVE_ACCESS, not restored; 1 damaged");
}

#[test]
fn of_several_restores_the_comment_tells_when_the_last_is_ready() {
    let at = |minute: i64| Timestamp(1_795_507_200_000_000 + minute * MINUTE);
    let mut books = SubOperations::new(312);
    for number in 0..312 {
        let ready = Timestamp(at(number % 10).0 + 1);
        books.record(failure(usize::try_from(number).unwrap(), Reason::AskAgain(ready)));
    }
    // The minute in which it is ready is the next one.
    let said = format!("312 archived, ready {}, ask again", local_minute(at(10)));
    assert_eq!(local_minute(at(10)), local_minute(Timestamp(at(9).0 + 1)));
    assert_eq!(books.conclude(End::Complete).comment, Some(said.clone()));
    assert!(said.len() <= MAX_COMMENT, "{said}");
    let local = local_minute(at(0));
    let (day, rest) = local.split_once(' ').unwrap();
    assert!(day == "2026-11-24" || day == "2026-11-25", "{local}");
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    assert!(digits(&rest[..2]) && &rest[2..3] == ":" && digits(&rest[3..5]), "{local}");
    assert!(
        ["+", "-"].contains(&&rest[5..6]) && digits(&rest[6..]) && rest.len() == 10,
        "{local}"
    );
}

#[test]
fn what_could_not_be_promised_has_to_be_asked_for_again() {
    let at = |minute: i64| Timestamp(1_795_507_200_000_000 + minute * MINUTE);
    let mut books = SubOperations::new(3);
    books.record(failure(1, Reason::Delivered(at(20))));
    books.record(failure(2, Reason::AskAgain(at(10))));
    books.record(failure(3, Reason::Delivered(at(0))));
    let mut promised = books.clone();
    let comment = promised.conclude(End::Complete).comment.unwrap();
    assert_eq!(comment, format!("2 archived, ready {}, sent then", local_minute(at(20))));
    books.nothing_is_delivered();
    let conclusion = books.conclude(End::Complete);
    assert_eq!(
        conclusion.comment,
        Some(format!("3 archived, ready {}, ask again", local_minute(at(20))))
    );
    assert_eq!(
        (conclusion.counts.failed, conclusion.status),
        (3, Status::CannotPerformSubOperations)
    );
}

#[test]
fn more_than_65535_sub_operations_do_not_wrap() {
    let planned = 200_000;
    let mut books = SubOperations::new(planned);
    assert_eq!(books.counts().remaining, u16::MAX);
    for number in 0..planned {
        books.record(if number % 2 == 0 {
            SubOperation::Completed
        } else {
            failure(number, Reason::ColdDown)
        });
        let exact = planned - number - 1;
        assert_eq!(usize::from(books.counts().remaining), exact.min(usize::from(u16::MAX)));
    }
    let conclusion = books.conclude(End::Complete);
    assert_eq!(conclusion.status, Status::WarningSubOperations);
    assert_eq!((conclusion.counts.completed, conclusion.counts.failed), (u16::MAX, u16::MAX));
    assert!(conclusion.comment.unwrap().starts_with("100000 "));
}

#[test]
fn the_list_of_failures_is_the_first_ones_that_fit_a_value() {
    let mut books = SubOperations::new(100_000);
    let long = |number: usize| Uid::parse(&format!("1.{}.{number:06}", "2".repeat(55))).unwrap();
    for number in 0..100_000 {
        books.record(SubOperation::Failed {
            instance: long(number),
            reason: Reason::Unreachable,
        });
    }
    let failed = books.conclude(End::Complete).failed;
    assert_eq!(failed, (0..16_131).map(long).collect::<Vec<_>>());
    let value = failed.iter().map(Uid::as_str).collect::<Vec<_>>().join("\\");
    assert!(
        value.len() <= MAX_FAILED_LIST && value.len() + 65 > MAX_FAILED_LIST,
        "{}",
        value.len()
    );
}
