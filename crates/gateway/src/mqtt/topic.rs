//! What topics are called: one folder for each organisation and device.

use record::OrgId;

/// How all topics begin.
const ROOT: &str = "vitaltrace";
/// What a device publishes frames under.
const FRAME: &str = "frame";
/// Where a device of ours is answered; any other topic of the device's folder will do as well.
const ANSWER: &str = "answer";
/// The longest topic for an answer, in bytes.
const TOPIC_BYTES_MAX: usize = 256;

/// The topics of an organisation.
pub(crate) struct Topics<'a> {
    org: &'a OrgId,
}

/// The id of the device whose folder a topic is in, by its place.
pub(crate) fn device_of(topic: &str) -> &str {
    topic.split('/').nth(3).unwrap_or_default()
}

impl<'a> Topics<'a> {
    pub(crate) fn new(org: &'a OrgId) -> Self {
        Self { org }
    }

    fn folder(&self, device: &str) -> String {
        format!("{ROOT}/{}/device/{device}/", self.org)
    }

    /// Where a device publishes its frames.
    pub(crate) fn frames(&self, device: &str) -> String {
        format!("{}{FRAME}", self.folder(device))
    }

    /// Where a device of ours is answered.
    pub(crate) fn answers(&self, device: &str) -> String {
        format!("{}{ANSWER}", self.folder(device))
    }

    /// What a gateway subscribes to, alone or sharing it with those of a group.
    pub(crate) fn filter(&self, share: Option<&str>) -> String {
        let all = self.frames("+");
        share.map_or(all.clone(), |group| format!("$share/{group}/{all}"))
    }

    /// The id of the device whose frames a topic is for.
    pub(crate) fn device<'t>(&self, topic: &'t str) -> Option<&'t str> {
        let device = device_of(topic);
        (topic == self.frames(device)).then_some(device)
    }

    /// Whether an answer may go to `topic`: one in the device's own folder that is not for frames. Elsewhere a device could make the gateway
    /// speak where it may not itself.
    pub(crate) fn may_answer(&self, device: &str, topic: &str) -> bool {
        let name = topic.strip_prefix(&self.folder(device));
        !device.is_empty()
            && topic.len() <= TOPIC_BYTES_MAX
            && name.is_some_and(|name| !name.is_empty() && name != FRAME && !name.contains(['+', '#', '\0']))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_tells_organisation_and_device() {
        let org: OrgId = "mercy-hospital".parse().unwrap();
        let topics = Topics::new(&org);
        assert_eq!(topics.frames("d1"), "vitaltrace/mercy-hospital/device/d1/frame");
        assert_eq!(topics.filter(None), "vitaltrace/mercy-hospital/device/+/frame");
        assert_eq!(topics.filter(Some("vitaltrace")), "$share/vitaltrace/vitaltrace/mercy-hospital/device/+/frame");
        assert_eq!(topics.device("vitaltrace/mercy-hospital/device/d1/frame"), Some("d1"));
        for other in ["", "vitaltrace/other/device/d1/frame", "vitaltrace/mercy-hospital/device/d1/frame/x", "a/b/c/d"]
        {
            assert_eq!(topics.device(other), None, "{other}");
        }
    }

    #[test]
    fn answers_go_into_the_devices_own_folder_only() {
        let org: OrgId = "mercy-hospital".parse().unwrap();
        let topics = Topics::new(&org);
        let may = |topic: &str| topics.may_answer("d1", topic);
        assert!(may(&topics.answers("d1")) && may("vitaltrace/mercy-hospital/device/d1/a/b"));
        for other in [
            "",
            "answers",
            "vitaltrace/mercy-hospital/device/d1/frame",
            "vitaltrace/mercy-hospital/device/d1/",
            "vitaltrace/mercy-hospital/device/d2/answer",
            "vitaltrace/mercy-hospital/device/d1/#",
            "$SYS/vitaltrace/mercy-hospital/device/d1/a",
            &format!("vitaltrace/mercy-hospital/device/d1/{}", "a".repeat(256)),
        ] {
            assert!(!may(other), "{other}");
        }
        assert!(!topics.may_answer("", "vitaltrace/mercy-hospital/device//answer"));
    }
}
