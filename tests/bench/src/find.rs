//! C-FIND on one open association: how long until the last answer, for the questions that are asked of an archive.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use filmroom_index::dataset::DataSet;
use filmroom_index::model::Encoding;
use serde_json::json;

use crate::chance::Chance;
use crate::figures::Latencies;
use crate::population::{DAYS, Population};
use crate::wire::{Association, Command, IMPLICIT, Proposed, Target};

/// Study Root Query/Retrieve Information Model, FIND
const FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";
/// C-FIND-RQ
const C_FIND: u16 = 0x0020;
/// Questions before the clock starts.
const WARM_UP: u64 = 5;

/// What is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Find {
    #[command(flatten)]
    target: Target,
    /// The kinds of question; absent: all, one line of JSON each
    #[arg(long, value_enum)]
    question: Vec<Question>,
    /// Studies of the population
    #[arg(long)]
    studies: u64,
    /// Its seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Questions of a kind
    #[arg(long, default_value_t = 200)]
    count: u64,
    /// No further question of a kind after so many seconds
    #[arg(long, default_value_t = 15.0)]
    seconds: f64,
}

/// A kind of question, at STUDY level.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Question {
    /// One Patient ID
    PatientId,
    /// One Accession Number
    Accession,
    /// One Study Instance UID
    StudyUid,
    /// All studies of a day
    Day,
    /// Family name and two letters of the given name
    NamePrefix,
    /// CT of a day
    ModalityDay,
    /// So many days that they have a thousand studies
    Thousand,
    /// A family name that ends in SON
    Son,
}

const ALL: [Question; 8] = [
    Question::PatientId,
    Question::Accession,
    Question::StudyUid,
    Question::Day,
    Question::NamePrefix,
    Question::ModalityDay,
    Question::Thousand,
    Question::Son,
];

/// Asks, and prints one line of JSON for each kind of question.
pub(crate) fn run(arguments: &Find) -> Result<()> {
    let proposed = [Proposed {
        abstract_syntax: FIND,
        transfer_syntax: IMPLICIT,
        role_scp: false,
    }];
    let mut association = Association::request(&arguments.target, &proposed)?;
    let context = association.context(FIND)?;
    let population = Population::new(arguments.seed, arguments.studies);
    let questions: &[Question] = if arguments.question.is_empty() { &ALL } else { &arguments.question };
    for question in questions {
        let mut latencies = Latencies::default();
        let mut first = Latencies::default();
        let (mut answers, mut asked) = (0, 0);
        let mut last_status = None;
        let began = Instant::now();
        for number in 0..WARM_UP + arguments.count {
            let identifier = question.identifier(&population, number).encode(Encoding::ImplicitLittle);
            let asked_at = Instant::now();
            let (found, status, until_first) = ask(&mut association, context, number, &identifier)?;
            if number >= WARM_UP {
                latencies.add(asked_at.elapsed());
                first.add(until_first);
                answers += found;
                asked += 1;
            }
            last_status = status;
            if began.elapsed().as_secs_f64() > arguments.seconds && asked > 0 {
                break;
            }
        }
        let (latencies, first) = (
            Latencies::together([latencies].into_iter()),
            Latencies::together([first].into_iter()),
        );
        println!(
            "{}",
            json!({
                "question": format!("{question:?}"), "asked": asked, "answers": answers as f64 / f64::max(asked as f64, 1.0),
                "status": last_status.map(|status| format!("{status:04X}")), "seconds": began.elapsed().as_secs_f64(),
                "p50_ms": latencies.percentile(50.0), "p99_ms": latencies.percentile(99.0), "first_p50_ms": first.percentile(50.0),
            })
        );
    }
    association.release()
}

/// Answers, final status, and the time until the first response.
fn ask(association: &mut Association, context: u8, number: u64, identifier: &[u8]) -> Result<(u64, Option<u16>, Duration)> {
    let id = u16::try_from(number % 60_000 + 1).unwrap_or(1);
    let since = Instant::now();
    association.send(context, &Command::request(C_FIND, FIND, id, true), &[identifier])?;
    let (mut found, mut first) = (0, None);
    loop {
        let message = association.receive(None)?.context("released in the middle")?;
        first.get_or_insert_with(|| since.elapsed());
        match message.command.number(0x0900) {
            Some(0xff00 | 0xff01) => found += 1,
            status => return Ok((found, status, first.unwrap_or_default())),
        }
    }
}

impl Question {
    /// The identifier of one question of the kind: its keys, and what a viewer's list shows.
    fn identifier(self, population: &Population, number: u64) -> DataSet {
        let study = population.study(Chance::of(number).about("question", 0).below(population.studies));
        let day = Chance::of(number).about("day", 0).below(DAYS);
        let mut identifier = DataSet::new();
        for (tag, vr) in RETURNED {
            identifier.put_text(tag, vr, "");
        }
        identifier.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, "STUDY");
        match self {
            Question::PatientId => identifier.put_text(tags::PATIENT_ID, VR::LO, study.patient_id),
            Question::Accession => {
                // A few studies have none.
                let mut ordered = study;
                while ordered.accession.is_empty() {
                    ordered = population.study((ordered.number + 1) % population.studies);
                }
                identifier.put_text(tags::ACCESSION_NUMBER, VR::SH, ordered.accession);
            }
            Question::StudyUid => identifier.put_text(tags::STUDY_INSTANCE_UID, VR::UI, study.uid),
            Question::Day => identifier.put_text(tags::STUDY_DATE, VR::DA, study.date),
            Question::NamePrefix => {
                let alphabetic = study.name.split('=').next().unwrap_or_default();
                let (family, given) = alphabetic.split_once('^').unwrap_or((alphabetic, ""));
                let prefix: String = given.chars().take(2).collect();
                identifier.put_text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
                identifier.put_text(tags::PATIENT_NAME, VR::PN, format!("{family}^{prefix}*"));
            }
            Question::ModalityDay => {
                identifier.put_text(tags::STUDY_DATE, VR::DA, study.date);
                identifier.put_text(tags::MODALITIES_IN_STUDY, VR::CS, "CT");
            }
            Question::Thousand => {
                let days = (1000 * DAYS).div_ceil(population.studies.max(1)).clamp(1, DAYS);
                let start = day.min(DAYS - days);
                let range = format!("{}-{}", Population::date_of_day(start), Population::date_of_day(start + days - 1));
                identifier.put_text(tags::STUDY_DATE, VR::DA, range);
            }
            Question::Son => identifier.put_text(tags::PATIENT_NAME, VR::PN, "*SON*"),
        }
        identifier
    }
}

/// What a viewer's list of studies shows.
const RETURNED: [(Tag, VR); 13] = [
    (tags::STUDY_DATE, VR::DA),
    (tags::STUDY_TIME, VR::TM),
    (tags::ACCESSION_NUMBER, VR::SH),
    (tags::MODALITIES_IN_STUDY, VR::CS),
    (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
    (tags::STUDY_DESCRIPTION, VR::LO),
    (tags::PATIENT_NAME, VR::PN),
    (tags::PATIENT_ID, VR::LO),
    (tags::PATIENT_BIRTH_DATE, VR::DA),
    (tags::PATIENT_SEX, VR::CS),
    (tags::STUDY_INSTANCE_UID, VR::UI),
    (tags::STUDY_ID, VR::SH),
    (tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS),
];
