#!/bin/sh
# Writes the King James Bible, as Debian's bible-kjv prints it, to DIR/train/ and DIR/val/: a text file a book, with the
# book's name and the chapters as headings and a verse a line, without references.
#
#   launch/corpus_bible.sh DIR
#
# Twelve whole books are held out for validation: history, poetry, wisdom, prophets great and small, a gospel, letters.
# Books with a near copy elsewhere (Chronicles, the first three gospels, Ezra, Colossians, Jude, …) are not among them.
set -eu

if [ $# -ne 1 ]; then
  echo "usage: $0 DIR" >&2
  exit 2
fi
folder=$1
command -v bible >/dev/null || {
  echo "$0: no program 'bible' here: install the package bible-kjv" >&2
  exit 1
}

if [ -e "$folder" ]; then
  echo "$0: $folder is there already: remove it to make the corpus anew" >&2
  exit 1
fi
mkdir -p "$(dirname "$folder")"
fresh=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$fresh"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$fresh/train" "$fresh/val"
LC_ALL=C bible -f Gen1:1-Rev22:21 | LC_ALL=C awk -v folder="$fresh" '
BEGIN {
  names = "Ge=Genesis Exo=Exodus Lev=Leviticus Num=Numbers Deu=Deuteronomy Josh=Joshua Jdgs=Judges Ruth=Ruth 1Sm=1_Samuel " \
    "2Sm=2_Samuel 1Ki=1_Kings 2Ki=2_Kings 1Chr=1_Chronicles 2Chr=2_Chronicles Ezra=Ezra Neh=Nehemiah Est=Esther Job=Job " \
    "Psa=Psalms Prv=Proverbs Eccl=Ecclesiastes SSol=Song_of_Solomon Isa=Isaiah Jer=Jeremiah Lam=Lamentations Eze=Ezekiel " \
    "Dan=Daniel Hos=Hosea Joel=Joel Amos=Amos Obad=Obadiah Jonah=Jonah Mic=Micah Nahum=Nahum Hab=Habakkuk Zep=Zephaniah " \
    "Hag=Haggai Zec=Zechariah Mal=Malachi Mat=Matthew Mark=Mark Luke=Luke John=John Acts=Acts Rom=Romans 1Cor=1_Corinthians " \
    "2Cor=2_Corinthians Gal=Galatians Eph=Ephesians Phi=Philippians Col=Colossians 1Th=1_Thessalonians 2Th=2_Thessalonians " \
    "1Tim=1_Timothy 2Tim=2_Timothy Titus=Titus Phmn=Philemon Heb=Hebrews Jas=James 1Pet=1_Peter 2Pet=2_Peter 1Jn=1_John " \
    "2Jn=2_John 3Jn=3_John Jude=Jude Rev=Revelation"
  n = split(names, pairs, " ")
  for (i = 1; i <= n; i++) {
    split(pairs[i], pair, "=")
    name[pair[1]] = pair[2]
  }
  n = split("Ruth Esther Ecclesiastes Lamentations Daniel Jonah Habakkuk John Galatians Titus James 1_Peter", list, " ")
  for (i = 1; i <= n; i++) held_out[list[i]] = 1
}
{
  # "Ge1:1 In the beginning …", "1Sm3:5 And he ran …"
  if (!match($1, /[0-9]+:[0-9]+$/)) { print "unexpected line " NR ": " $0 > "/dev/stderr"; failed = 1; exit }
  short = substr($1, 1, RSTART - 1)
  split(substr($1, RSTART), place, ":")
  if (!(short in name)) { print "unknown book " short " in line " NR > "/dev/stderr"; failed = 1; exit }
  if (short != book) {
    if (file != "") close(file)
    book = short
    books++
    chapter = 0
    title = name[book]
    file = sprintf("%s/%s/%02d-%s.txt", folder, title in held_out ? "val" : "train", books, tolower(title))
    gsub("_", " ", title)
    print title > file
  }
  if (place[1] != chapter) {
    chapter = place[1]
    print "\n" (book == "Psa" ? "Psalm " : "Chapter ") chapter "\n" > file
  }
  verses++
  sub(/^[^ ]+ +/, "")
  sub(/ +$/, "")
  print > file
}
END {
  if (!failed && (books != 66 || verses != 31102)) {
    print "bible printed " books " books and " verses " verses, not 66 and 31102" > "/dev/stderr"
    failed = 1
  }
  exit failed
}' || {
  echo "$0: the text of bible-kjv is not as expected" >&2
  exit 1
}
chmod 755 "$fresh"
mv "$fresh" "$folder"
for part in train val; do
  echo "$folder/$part: $(find "$folder/$part" -name '*.txt' | wc -l) books, $(cat "$folder/$part"/*.txt | wc -c) bytes"
done
