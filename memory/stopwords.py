"""Words that carry no topic, in English and German, and which of the two a question is in by them.

Knows the lists. They are kept short: a question word or a negation that BM25 would weigh down anyway does no harm in a
large memory. In a small one `wir` and `eine` are as rare as what was asked for.
"""

from __future__ import annotations

from collections.abc import Collection

from memory.languages import ENGLISH

GERMAN = "german"

STOP_WORDS = {
    ENGLISH: frozenset(
        """
        a about after all also am an and any are aren't as at be because been before being but by can can't could did
        didn't do does doesn't doing don't for from had has have having he her hers him his how i i'd i'll i'm i've if
        in into is isn't it it's its just let's me more most my no nor not of off on once only or other our ours out
        over own s same she should so some such t than that that's the their theirs them then there there's these they
        this those through to too under until up very was wasn't we we're were what what's when where which while who
        whom why will with won't would you you're your yours
        """.split()  # noqa: SIM905 - one word a line would be a page and a half
    ),
    GERMAN: frozenset(
        """
        ab aber alle allem allen aller alles als also am an ander andere anderen auch auf aus bei beim bin bis bist da
        dabei dafür daher damit dann daran darauf daraus darin darüber das dass dein deine dem den denn der deren des
        dessen dich die dies diese diesem diesen dieser dieses dir doch dort du durch durfte dürfen ein eine einem einen
        einer eines einige er es etwas euch euer eure für gegen gibt hab habe haben habt hat hatte hatten hattest hätte
        hier hinter ich ihm ihn ihnen ihr ihre ihrem ihren ihrer im in indem ins ist ja jede jedem jeden jeder jedes
        jener kann kannst kein keine keinem keinen keiner können könnte konnte machen man manche mehr mein meine meinem
        meinen meiner mich mir mit muss musste müssen nach nicht nichts noch nun nur ob oder ohne sehr sein seine seinem
        seinen seiner seit selbst sich sie sind so solche soll sollen sollte sondern sonst über um und uns unser unsere
        unserem unseren unserer unter vom von vor wann war waren warum warst was weg weil welche welchem welchen welcher
        welches wem wen wenn wer werde werden wessen weswegen wie wieder wieviel will wir wird wirst wo woher wohin
        wollen wollte womit worauf worin worüber wovon wozu wurde wurden würde würden zu zum zur zwar zwischen
        """.split()  # noqa: SIM905 - as above
    ),
}


def of_question(words: Collection[str]) -> frozenset[str]:
    """The stop words of the language that most of `words`, case-folded, belong to; in doubt of English."""
    return max(STOP_WORDS.values(), key=lambda stop: sum(word in stop for word in words))
