//! Synthetic memories: every row can be made again from the seed, its workspace and its number.

use uuid::Uuid;

/// Words in the language. Zipf's law makes the first the commonest.
const VOCABULARY: usize = 20_000;
/// Words that are commoner than this are left to natural language's stop words and not asked for.
const COMMON: usize = 20;
/// Topics of the world, and of one workspace.
const TOPICS: u64 = 64;
const TOPICS_OF_ONE: u64 = 8;
/// Tags are given by turns: each marks a tenth of a workspace.
pub const TAGS: usize = 10;

/// SplitMix64.
pub struct Random(u64);

impl Random {
    /// A stream of its own for every list of numbers.
    pub fn new(parts: &[u64]) -> Self {
        let mut random = Self(0x5851_f42d_4c95_7f2d);
        for part in parts {
            random.0 ^= *part;
            random.0 = random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// 0 to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A direction: the sum of the four quarters of a random number is near enough to normal.
    fn direction(&mut self, dims: usize) -> Vec<f32> {
        let mut vector: Vec<f32> = (0..dims)
            .map(|_| {
                let bits = self.next();
                (0..4)
                    .map(|n| ((bits >> (16 * n)) & 0xffff) as f32)
                    .sum::<f32>()
                    - 131_070.0
            })
            .collect();
        normalise(&mut vector);
        vector
    }
}

fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|x| *x /= length);
}

/// One memory.
pub struct Row {
    pub number: i64,
    pub content: String,
    pub tag: String,
    pub vector: Vec<f32>,
}

/// One question to a workspace.
pub struct Question {
    pub workspace: usize,
    /// Two words, both wanted.
    pub two: String,
    /// Six words, any of which may match: plain, and joined by `or`.
    pub six: String,
    pub six_or: String,
    pub tag: String,
    pub vector: Vec<f32>,
}

/// The language and the shape of the world.
pub struct Generator {
    pub seed: u64,
    pub dims: usize,
    words: Vec<String>,
    cumulative: Vec<f64>,
}

impl Generator {
    pub fn new(seed: u64, dims: usize) -> Self {
        let mut total = 0.0;
        let cumulative = (0..VOCABULARY)
            .map(|rank| {
                total += 1.0 / (rank + 1) as f64;
                total
            })
            .collect();
        Self {
            seed,
            dims,
            words: (0..VOCABULARY).map(word).collect(),
            cumulative,
        }
    }

    /// The user, and thereby the workspace, with a number.
    pub fn user(&self, workspace: usize) -> Uuid {
        Uuid::new_v5(
            &Uuid::NAMESPACE_OID,
            format!("bench {workspace}").as_bytes(),
        )
    }

    fn ranks(&self, workspace: usize, n: usize) -> Vec<usize> {
        let mut random = Random::new(&[self.seed, 1, workspace as u64, n as u64]);
        let length = 20 + random.below(41);
        let total = self.cumulative[VOCABULARY - 1];
        (0..length)
            .map(|_| {
                let at = random.unit() * total;
                self.cumulative
                    .partition_point(|c| *c < at)
                    .min(VOCABULARY - 1)
            })
            .collect()
    }

    /// Memory `n` of a workspace.
    pub fn row(&self, workspace: usize, n: usize) -> Row {
        let words: Vec<&str> = self
            .ranks(workspace, n)
            .into_iter()
            .map(|rank| self.words[rank].as_str())
            .collect();
        Row {
            number: (workspace as i64) << 32 | n as i64,
            content: words.join(" ") + ".",
            tag: format!("tag{}", n % TAGS),
            vector: self.vector(workspace, n),
        }
    }

    /// Its vector: near a topic of the workspace, which is near a topic of the world.
    pub fn vector(&self, workspace: usize, n: usize) -> Vec<f32> {
        let mut random = Random::new(&[self.seed, 2, workspace as u64, n as u64]);
        let own = random.next() % TOPICS_OF_ONE;
        let mut own_random = Random::new(&[self.seed, 3, workspace as u64, own]);
        let world = Random::new(&[self.seed, 4, own_random.next() % TOPICS]).direction(self.dims);
        let topic = near(&world, 0.8, &mut own_random);
        near(&topic, 0.9, &mut random)
    }

    /// Question `n`, about some memory of the workspace, which has `memories`.
    pub fn question(&self, workspace: usize, memories: usize, n: usize) -> Question {
        let mut random = Random::new(&[self.seed, 5, workspace as u64, n as u64]);
        let target = random.below(memories);
        let mut ranks = self.ranks(workspace, target);
        ranks.retain(|rank| *rank >= COMMON);
        ranks.sort_unstable();
        ranks.dedup();
        let mut words: Vec<&str> = Vec::new();
        while words.len() < 6 && !ranks.is_empty() {
            words.push(&self.words[ranks.swap_remove(random.below(ranks.len()))]);
        }
        Question {
            workspace,
            two: words[..words.len().min(2)].join(" "),
            six: words.join(" "),
            six_or: words.join(" or "),
            tag: format!("tag{}", target % TAGS),
            vector: near(&self.vector(workspace, target), 0.7, &mut random),
        }
    }
}

fn near(centre: &[f32], distance: f32, random: &mut Random) -> Vec<f32> {
    let mut vector = random.direction(centre.len());
    for (x, c) in vector.iter_mut().zip(centre) {
        *x = c + distance * *x;
    }
    normalise(&mut vector);
    vector
}

/// A word that can be pronounced, different for every rank.
fn word(rank: usize) -> String {
    const CONSONANTS: &[u8] = b"bdfgklmnprtvz";
    const VOWELS: &[u8] = b"aou";
    let mut rest = rank;
    let mut word = String::new();
    for _ in 0..3 {
        word.push(CONSONANTS[rest % CONSONANTS.len()] as char);
        rest /= CONSONANTS.len();
        word.push(VOWELS[rest % VOWELS.len()] as char);
        rest /= VOWELS.len();
    }
    // No suffix of English ends so: the stemmer leaves every word alone.
    word.push('k');
    word
}
