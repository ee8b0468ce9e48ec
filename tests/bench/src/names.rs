//! Names of patients in several languages, the usual ones first, as PN writes them (PS3.5 6.2). Those that end in SON are rare here, so that the
//! question for them has an answer that a viewer can show even at a million studies.

use crate::chance::Chance;

/// Family names and given names of one language, already in component groups: `(alphabetic, ideographic, phonetic)`, the latter two empty where the
/// language has none.
struct Language {
    family: &'static [(&'static str, &'static str, &'static str)],
    given: &'static [(&'static str, &'static str, &'static str)],
}

macro_rules! alphabetic {
    ($($name:literal)*) => { &[$(($name, "", "")),*] };
}

const ENGLISH: Language = Language {
    family: alphabetic!("SMITH" "WILLIAMS" "BROWN" "JONES" "DAVIS" "MILLER" "MOORE" "TAYLOR" "THOMAS" "WHITE" "HARRIS" "MARTIN" "CLARK" "LEWIS" "LEE" "WALKER"
        "HALL" "ALLEN" "YOUNG" "KING" "WRIGHT" "HILL" "SCOTT" "GREEN" "BAKER" "CARTER" "O'BRIEN" "MITCHELL" "ROBERTS" "TURNER" "PHILLIPS" "CAMPBELL" "PARKER"
        "EVANS" "EDWARDS" "COLLINS" "STEWART" "MORRIS" "MURPHY" "COOK" "ROGERS" "REED" "JOHNSON" "ANDERSON"),
    given: alphabetic!("MARY" "JAMES" "ROBERT" "PATRICIA" "JOHN" "JENNIFER" "MICHAEL" "LINDA" "WILLIAM" "ELIZABETH" "DAVID" "BARBARA" "RICHARD" "SUSAN" "JOSEPH"
        "JESSICA" "THOMAS" "SARAH" "CHARLES" "KAREN" "ADAM" "NANCY" "DANIEL^J" "LISA^ANN" "MATTHEW^P"),
};
const GERMAN: Language = Language {
    family: alphabetic!("Müller" "Schmidt" "Schneider" "Fischer" "Weber" "Meyer" "Wagner" "Becker" "Schulz" "Hoffmann" "Schäfer" "Koch" "Bauer" "Richter" "Klein"
        "Wolf" "Schröder" "Neumann" "Schwarz" "Zimmermann" "Braun" "Krüger" "Hofmann" "Großmann" "Köhler" "Jäger"),
    given: alphabetic!("Anna" "Hans" "Ursula" "Peter" "Jürgen" "Käthe" "Günter" "Sabine" "Björn" "Jörg" "Renate" "Karl-Heinz" "Lea" "Matthias" "Änne"),
};
const FRENCH: Language = Language {
    family: alphabetic!("Martin" "Bernard" "Dubois" "Thomas" "Petit" "Durand" "Leroy" "Moreau" "Lefèvre" "Fournier" "François" "Garnier" "Rousseau" "Gauthier" "Lemaître"),
    given: alphabetic!("Marie" "Jean" "Hélène" "Pierre" "Françoise" "André" "Zoé" "Rémi" "Chloë" "Benoît"),
};
const SPANISH: Language = Language {
    family: alphabetic!("García" "Rodríguez" "González" "Fernández" "López" "Martínez" "Sánchez" "Pérez" "Muñoz" "Núñez" "Jiménez" "Peña Ortiz"),
    given: alphabetic!("María" "José" "Carmen" "Ángel" "Begoña" "Jesús" "Lucía" "Íñigo" "Inés"),
};
const POLISH: Language = Language {
    family: alphabetic!("Nowak" "Kowalska" "Wiśniewski" "Wójcik" "Kamińska" "Lewandowski" "Dąbrowski" "Zieliński" "Woźniak" "Łuczak"),
    given: alphabetic!("Anna" "Piotr" "Małgorzata" "Krzysztof" "Agnieszka" "Łukasz" "Żaneta"),
};
const TURKISH: Language = Language {
    family: alphabetic!("Yılmaz" "Kaya" "Demir" "Şahin" "Çelik" "Yıldız" "Öztürk" "Aydın" "Doğan"),
    given: alphabetic!("Fatma" "Mehmet" "Ayşe" "Mustafa" "İbrahim" "Gülşen" "Çağla"),
};
const RUSSIAN: Language = Language {
    family: alphabetic!("Иванов" "Смирнова" "Кузнецов" "Попова" "Соколов" "Лебедева" "Новиков" "Морозова"),
    given: alphabetic!("Анна^Ивановна" "Сергей^Петрович" "Мария" "Дмитрий" "Елена^Сергеевна"),
};
const GREEK: Language = Language {
    family: alphabetic!("Παπαδόπουλος" "Βλάχου" "Αγγελόπουλος" "Νικολαΐδης"),
    given: alphabetic!("Μαρία" "Γεώργιος" "Ελένη" "Ιωάννης"),
};
const ARABIC: Language = Language {
    family: alphabetic!("القباني" "حسن" "المصري" "عبد الله"),
    given: alphabetic!("لنزار" "فاطمة" "محمد" "ليلى"),
};
const JAPANESE: Language = Language {
    family: &[
        ("Sato", "佐藤", "さとう"),
        ("Suzuki", "鈴木", "すずき"),
        ("Takahashi", "高橋", "たかはし"),
        ("Tanaka", "田中", "たなか"),
        ("Yamada", "山田", "やまだ"),
        ("Kobayashi", "小林", "こばやし"),
    ],
    given: &[
        ("Taro", "太郎", "たろう"),
        ("Hanako", "花子", "はなこ"),
        ("Ichiro", "一郎", "いちろう"),
        ("Yoko", "洋子", "ようこ"),
        ("Kenji", "健二", "けんじ"),
    ],
};
const KOREAN: Language = Language {
    family: &[("Kim", "金", "김"), ("Lee", "李", "이"), ("Park", "朴", "박"), ("Choi", "崔", "최")],
    given: &[
        ("Minjun", "民俊", "민준"),
        ("Seoyeon", "瑞姸", "서연"),
        ("Jihun", "智勳", "지훈"),
        ("Hee", "喜", "희"),
    ],
};
const CHINESE: Language = Language {
    family: &[
        ("Wang", "王", ""),
        ("Li", "李", ""),
        ("Zhang", "张", ""),
        ("Liu", "刘", ""),
        ("Chen", "陈", ""),
    ],
    given: &[
        ("XiaoDong", "小东", ""),
        ("Wei", "伟", ""),
        ("Fang", "芳", ""),
        ("Min", "敏", ""),
        ("Jing", "静", ""),
    ],
};

const LANGUAGES: [(u64, &Language); 12] = [
    (38, &ENGLISH),
    (20, &GERMAN),
    (8, &FRENCH),
    (8, &SPANISH),
    (5, &POLISH),
    (5, &TURKISH),
    (4, &RUSSIAN),
    (2, &GREEK),
    (2, &ARABIC),
    (4, &JAPANESE),
    (2, &KOREAN),
    (2, &CHINESE),
];

/// A name, all its component groups.
pub(crate) fn name(chance: Chance) -> String {
    let language = chance.about("language", 0).weighted(&LANGUAGES);
    let family = chance.about("family", 0).early(language.family);
    let given = chance.about("given", 0).early(language.given);
    let groups = [(family.0, given.0), (family.1, given.1), (family.2, given.2)];
    let groups: Vec<String> = groups
        .iter()
        .filter(|(family, _)| !family.is_empty())
        .map(|(f, g)| format!("{f}^{g}"))
        .collect();
    groups.join("=")
}
