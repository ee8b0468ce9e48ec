//! What an import says: on the terminal, as JSON, and as a report file that names every file about which there is something to say.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::HumanBytes;
use serde_json::json;

use super::journal::Remark;
use super::walk::{Known, Name};
use crate::imports::Imported;

/// Refused files that are shown without a report file.
const SHOWN: usize = 1000;

/// What became of the files so far, counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Stored now
    imported: u64,
    /// Here before, equal
    equal: u64,
    /// Done by an earlier start
    earlier: u64,
    linked: u64,
    not_linked: u64,
    /// The first reason for a copy instead of a link
    why_not_linked: Option<String>,
    noted: u64,
    passed_over: u64,
    /// Of these, those that are called as DICOM files are
    called_dicom: u64,
    refused: u64,
    missing: u64,
    bytes: u64,
    /// The first of those that were refused or are missing
    shown: Vec<(Name, String)>,
    report: Option<BufWriter<File>>,
}

impl Tally {
    /// Counts, and writes to a new report file if one is named.
    pub(super) fn new(report: Option<&Path>) -> io::Result<Tally> {
        let report = report.map(File::create).transpose()?.map(BufWriter::new);
        Ok(Tally {
            report,
            ..Tally::default()
        })
    }

    /// A file was imported, or not. What has to be remembered for the next start is returned, unless the file has to be tried again then.
    pub(super) fn settled(&mut self, name: &Name, imported: Imported, link: bool) -> io::Result<Option<Option<Remark>>> {
        match imported {
            Imported::Served {
                bytes,
                new,
                not_linked,
                notes,
            } => {
                *(if new { &mut self.imported } else { &mut self.equal }) += 1;
                self.bytes += bytes;
                if link && new {
                    *(if not_linked.is_some() {
                        &mut self.not_linked
                    } else {
                        &mut self.linked
                    }) += 1;
                    self.why_not_linked = self.why_not_linked.take().or(not_linked);
                }
                let remark = (!notes.is_empty()).then_some(Remark::Notes(notes));
                self.remark(name, remark.as_ref())?;
                Ok(Some(remark))
            }
            Imported::PassedOver { why } => {
                let remark = Remark::PassedOver(why);
                self.remark(name, Some(&remark))?;
                Ok(Some(Some(remark)))
            }
            Imported::Refused { why } | Imported::Unavailable { why } => self.refused(name, &why).map(|()| None),
        }
    }

    /// Counts what is known of something that was not to be imported.
    pub(super) fn known(&mut self, name: &Name, known: &Known) -> io::Result<()> {
        match known {
            Known::Done(remark) => {
                self.earlier += u64::from(!matches!(remark, Some(Remark::PassedOver(_))));
                self.remark(name, remark.as_ref())
            }
            Known::PassedOver(why) => self.passed_over(name, why),
            Known::Refused(why) => self.refused(name, why),
            Known::Missing(file) => {
                self.missing += 1;
                let why = format!("refers to {}, which is missing", file.display());
                self.show(name, &why);
                self.line(name, "missing", &why)
            }
        }
    }

    fn remark(&mut self, name: &Name, remark: Option<&Remark>) -> io::Result<()> {
        match remark {
            None => Ok(()),
            Some(Remark::PassedOver(why)) => self.passed_over(name, why),
            Some(Remark::Notes(notes)) => {
                self.noted += 1;
                self.line(name, "note", &notes.join("; "))
            }
        }
    }

    fn passed_over(&mut self, name: &Name, why: &str) -> io::Result<()> {
        self.passed_over += 1;
        self.called_dicom += u64::from(name.looks_dicom());
        self.line(name, "passed over", why)
    }

    fn refused(&mut self, name: &Name, why: &str) -> io::Result<()> {
        self.refused += 1;
        self.show(name, why);
        self.line(name, "refused", why)
    }

    fn show(&mut self, name: &Name, why: &str) {
        if self.shown.len() < SHOWN {
            self.shown.push((name.clone(), why.to_owned()));
        }
    }

    fn line(&mut self, name: &Name, result: &str, why: &str) -> io::Result<()> {
        let Some(report) = &mut self.report else { return Ok(()) };
        let mut line = json!({ "path": name.path.to_string_lossy(), "result": result, "why": why });
        if let (Some(object), Some(member)) = (line.as_object_mut(), &name.member) {
            object.insert("member".to_owned(), json!(member));
        }
        writeln!(report, "{line}")
    }

    /// What a progress bar says beside the number of files.
    pub(super) fn progress(&self) -> String {
        format!("{}, {} refused", HumanBytes(self.bytes), self.refused)
    }

    /// Files that were refused or are missing.
    pub(super) fn faults(&self) -> u64 {
        self.refused + self.missing
    }

    /// Prints what there is to say, and completes the report file.
    pub(super) fn print(mut self, elapsed: Duration, as_json: bool) -> io::Result<()> {
        if let Some(report) = &mut self.report {
            report.flush()?;
            report.get_ref().sync_all()?;
        }
        if as_json {
            self.print_json(elapsed)
        } else {
            self.print_lines(elapsed)
        }
        Ok(())
    }

    fn print_json(&self, elapsed: Duration) {
        let shown: Vec<_> = self
            .shown
            .iter()
            .map(|(name, why)| json!({ "path": name.path.to_string_lossy(), "member": name.member, "why": why }))
            .collect();
        let all = json!({
            "imported": self.imported, "equal": self.equal, "earlier": self.earlier, "linked": self.linked, "noted": self.noted,
            "passed_over": self.passed_over, "refused": self.refused, "missing": self.missing, "bytes": self.bytes,
            "seconds": elapsed.as_secs_f64(), "faults": shown,
        });
        println!("{all}");
    }

    fn print_lines(&self, elapsed: Duration) {
        println!("{} imported, {} refused", self.imported, self.refused);
        let said = |count: u64, text: &str| {
            if count > 0 {
                println!("{count} {text}");
            }
        };
        said(self.equal, "were here already, equal");
        said(
            self.earlier,
            "were done by an earlier start of this import (--anew looks at them again)",
        );
        said(self.linked, "are hard links to the source");
        let why = self.why_not_linked.as_deref().unwrap_or_default();
        said(
            self.not_linked,
            &format!("were copied, for they could not be linked; the first: {why}"),
        );
        said(self.noted, "were set right: their File Meta Information names another object");
        let called = match self.called_dicom {
            0 => String::new(),
            called => format!("; {called} of them are called .dcm"),
        };
        said(self.passed_over, &format!("passed over: nothing that is imported{called}"));
        said(self.missing, "missing, to which a DICOMDIR refers");
        let seconds = elapsed.as_secs_f64().max(0.001);
        let files = self.imported + self.equal;
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "for people"
        )]
        let (per_second, rate) = ((self.bytes as f64 / seconds) as u64, files as f64 / seconds);
        println!(
            "{} in {seconds:.1} s: {rate:.0} files/s, {}/s",
            HumanBytes(self.bytes),
            HumanBytes(per_second)
        );
        for (name, why) in &self.shown {
            println!("  {name}: {why}");
        }
        let more = self.faults().saturating_sub(self.shown.len() as u64);
        said(more, "more: see the report file (--report)");
    }
}
