//! A whole query against entities in memory: what the catalogue's SQL has to find, said once more without SQL.

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::attributes::level;
use super::{MatchKey, Query};
use crate::dataset::DataSet;
use crate::model::Level;

/// A patient, study, series or instance and what is below it, all of it served.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entity {
    /// The entity's attributes and those of the entities above it.
    pub attributes: DataSet,
    /// The studies of a patient, the series of a study, the instances of a series.
    pub below: Vec<Entity>,
}

impl Query {
    /// Whether an entity of the query's level matches. `line` leads from its patient down to the entity itself. Keys of narrower
    /// levels have to be met together by one line further down: by one series of a study, not by two.
    pub fn matches(&self, line: &[&Entity]) -> bool {
        let Some(entity) = line.last().filter(|_| line.len() == depth(self.level)) else {
            return false;
        };
        let study = line.get(1).copied();
        let (own, below): (Vec<&MatchKey>, Vec<&MatchKey>) = self.keys.iter().partition(|key| level(key.tag) <= self.level);
        own.iter().all(|key| key_matches(key, entity, study)) && line_below(entity, self.level, study, &below)
    }
}

fn line_below(entity: &Entity, at: Level, study: Option<&Entity>, keys: &[&MatchKey]) -> bool {
    let Some(next) = narrower(at).filter(|_| !keys.is_empty()) else {
        return keys.is_empty();
    };
    let (own, deeper): (Vec<&MatchKey>, Vec<&MatchKey>) = keys.iter().copied().partition(|key| level(key.tag) <= next);
    entity.below.iter().any(|child| {
        let study = study.or((next == Level::Study).then_some(child));
        own.iter().all(|key| key_matches(key, child, study)) && line_below(child, next, study, &deeper)
    })
}

fn key_matches(key: &MatchKey, entity: &Entity, study: Option<&Entity>) -> bool {
    let of_study = |depth, tag| study.map(|study| values_below(study, depth, tag)).unwrap_or_default();
    match key.tag {
        tags::MODALITIES_IN_STUDY => key.matcher.matches(key.vr, &of_study(1, tags::MODALITY)),
        tags::SOP_CLASSES_IN_STUDY => key.matcher.matches(key.vr, &of_study(2, tags::SOP_CLASS_UID)),
        _ => key.is_met_by(&entity.attributes),
    }
}

fn values_below(entity: &Entity, depth: u32, tag: Tag) -> Vec<String> {
    match depth {
        0 => entity.attributes.texts(tag).to_vec(),
        _ => entity.below.iter().flat_map(|child| values_below(child, depth - 1, tag)).collect(),
    }
}

fn depth(level: Level) -> usize {
    match level {
        Level::Patient => 1,
        Level::Study => 2,
        Level::Series => 3,
        Level::Image => 4,
    }
}

fn narrower(level: Level) -> Option<Level> {
    match level {
        Level::Patient => Some(Level::Study),
        Level::Study => Some(Level::Series),
        Level::Series => Some(Level::Image),
        Level::Image => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Root;
    use dicom_core::VR;

    fn entity(attributes: &[(Tag, VR, &str)], below: Vec<Entity>) -> Entity {
        let mut entity = Entity {
            below,
            ..Entity::default()
        };
        for (tag, vr, text) in attributes {
            entity.attributes.put_text(*tag, *vr, *text);
        }
        entity
    }

    fn study() -> Entity {
        let series = |modality, part, class| {
            let image = entity(&[(tags::SOP_CLASS_UID, VR::UI, class)], vec![]);
            entity(
                &[(tags::MODALITY, VR::CS, modality), (tags::BODY_PART_EXAMINED, VR::CS, part)],
                vec![image],
            )
        };
        entity(
            &[(tags::STUDY_DATE, VR::DA, "20200101")],
            vec![series("CT", "HEAD", "1.2"), series("SR", "CHEST", "1.3")],
        )
    }

    fn found(keys: &[(Tag, VR, &str)]) -> bool {
        let mut identifier = entity(keys, vec![]).attributes;
        identifier.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, "STUDY");
        let query = Query::find(Root::Study, &identifier).unwrap();
        query.matches(&[&Entity::default(), &study()])
    }

    #[test]
    fn modalities_in_study_match_if_any_series_has_one() {
        assert!(found(&[(tags::MODALITIES_IN_STUDY, VR::CS, "SR")]));
        assert!(!found(&[(tags::MODALITIES_IN_STUDY, VR::CS, "MR")]));
        assert!(found(&[(tags::SOP_CLASSES_IN_STUDY, VR::UI, "1.3")]));
        assert!(!found(&[(tags::SOP_CLASSES_IN_STUDY, VR::UI, "1.4")]));
    }

    #[test]
    fn keys_of_narrower_levels_are_met_by_one_line_down() {
        assert!(found(&[(tags::MODALITY, VR::CS, "CT"), (tags::BODY_PART_EXAMINED, VR::CS, "HEAD")]));
        assert!(!found(&[
            (tags::MODALITY, VR::CS, "CT"),
            (tags::BODY_PART_EXAMINED, VR::CS, "CHEST")
        ]));
        assert!(found(&[(tags::MODALITY, VR::CS, "SR"), (tags::SOP_CLASS_UID, VR::UI, "1.3")]));
        assert!(!found(&[(tags::MODALITY, VR::CS, "CT"), (tags::SOP_CLASS_UID, VR::UI, "1.3")]));
    }

    #[test]
    fn all_keys_have_to_match() {
        assert!(found(&[
            (tags::STUDY_DATE, VR::DA, "2020-"),
            (tags::MODALITIES_IN_STUDY, VR::CS, "CT")
        ]));
        assert!(!found(&[
            (tags::STUDY_DATE, VR::DA, "2021-"),
            (tags::MODALITIES_IN_STUDY, VR::CS, "CT")
        ]));
    }
}
