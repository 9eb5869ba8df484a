//! A route template of an HTTP function: `recoveries/{id}/tables`.

/// A template's segments: literals, and places for anything.
#[derive(Debug)]
pub(super) struct Route(Vec<Segment>);

#[derive(Debug)]
enum Segment {
    Literal(String),
    Anything,
}

impl Route {
    pub(super) fn parse(template: &str) -> Self {
        Self(
            template
                .split('/')
                .map(|segment| {
                    if segment.starts_with('{') {
                        Segment::Anything
                    } else {
                        Segment::Literal(segment.to_lowercase())
                    }
                })
                .collect(),
        )
    }

    /// Whether a path below the prefix fits. As in the host, case does not matter.
    pub(super) fn fits(&self, path: &str) -> bool {
        let path: Vec<&str> = path.trim_end_matches('/').split('/').collect();
        path.len() == self.0.len()
            && self.0.iter().zip(path).all(|(segment, part)| match segment {
                Segment::Literal(literal) => *literal == part.to_lowercase(),
                Segment::Anything => !part.is_empty(),
            })
    }
}
