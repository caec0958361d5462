"""What people and models write around an answer, in the languages in which they are asked."""

from __future__ import annotations

import re

I = re.IGNORECASE  # noqa: E741

NEUTRAL = re.compile(
    r"\b(?:(?:there|here|i)\s+(?:is|can\s+be|have|'s)\s+(?:absolutely\s+|really\s+)?(?:no"
    r"|little)\s+(?:doubt|question|uncertainty)"
    r"(?:\s+(?:here|at\s+all|in\s+my\s+mind))?|(?:there's|there\s+is)\s+no\s+doubt"
    r"|without\s+(?:a\s+|any\s+)?(?:shadow\s+of\s+a\s+)?doubt|beyond\s+(?:any\s+|reasonable\s+"
    r"|a\s+)*doubt|no\s+doubt"
    r"|undoubtedly|no\s+question|not\s+uncertain|(?:with\s+)?no\s+(?:hesitation|reservations?)"
    r"|no\s+(?:other|further|additional)\s+\w+(?:\s+(?:fits?|applies|seen|noted|present))?"
    r"|not\s+only|if\s+anything|as\s+if"
    r"|no\s+need\s+(?:for|to)[^.;]*|(?:can\s*not|can't|could\s+not|couldn't)\s+be\s+(?:anything"
    r"|any\s+other\s+\w+)"
    r"|not\s+(?:sure|certain)\s+why)\b"
    r"|(?:is|are|be)?\s*(?:none|nothing|anything)\s+(?:other|else)\s+(?:than|but)|nothing\s+but"
    r"|\bother\s+than\s+that\b",
    I,
)
"""Words that look like a denial or a doubt and are none."""

_FILL = (
    r"(?:a|an|the|any|option|choice|answer|letter|number|no\.|clear|definite|definitive|definitely"
    r"|really|actually|most|likely|probably"
    r"|very|best|case|cases|evidence|signs?|features?|findings?|diagnosis|diagnostic|typical"
    r"|characteristic|suggestive|supportive"
    r"|consistent|compatible|with|of|for|in|keeping|be|is|it|it's|that|this|to|an?|as|being"
    r"|indicating|indicative|your|my|by"
    r"|eine?|einen|der|die|das|le|la|el|il|un|une|o|option|la\s+réponse)"
)
DENIED_BEFORE = re.compile(
    rf"(?:\b(?:not|no|never|neither|nor|without|exclud\w+|rul(?:e|es|ed|ing)\s+out|against|lack(?:s"
    rf"|ing)?|absence|negative|free"
    rf"|rather\s+than|instead|opposed\s+to|unlike|except|but\s+for|reject\w*|dismiss\w*|eliminat\w+"
    rf"|discard\w*|disfavou?rs?"
    rf"|cannot|unlikely|isn't|wasn't|aren't|don't|doesn't|didn't|can't|won't|wouldn't|contrary"
    rf"|versus\s+not|wrong|incorrect"
    rf"|more\s+\w+\s+than|better\s+than|over|(?:likel(?:y|ier)|better|stronger|rather)\s+than|than"
    rf"|disagree|discount\w*|beats|outweighs"
    rf"|least\s+(?:likely|probable)|nicht|kein|keine|keinen|statt|anstatt|sondern\s+nicht|pas"
    rf"|plutôt\s+que|et\s+non|не|não"
    rf"|y\s+no|e\s+non|en\s+lugar\s+de"
    rf"|en\s+vez\s+de|al\s+posto\s+di|au\s+lieu\s+de|em\s+vez\s+de|вместо)"
    rf"|不是|并非|而不是|而非|非|排除|不选)[\s\"'(*]*(?:{_FILL}\b[\s\"'(*]*){{0,5}}$",
    I,
)
LISTED_AS_WRONG = re.compile(
    r"\b(?:(?:less|least)\s+(?:likely|probable)|unlikely|excluded|ruled\s+out|rejected|eliminated|discarded"
    r"|incorrect|wrong|unsupported)"
    r"(?:\s+(?:options?|choices?|answers?|diagnos[ie]s|alternatives?))?\s*:[\s\"'(*]*$"
    r"|\b(?:not|isn't|wrong|incorrect|worst|poor|bad|unlikely|(?:least|less)\s+\w+)\s+(?:an?\s+|the\s+|my\s+)?(?:best\s+)?"
    r"(?:options?|choices?|answers?|diagnos[ie]s|match|fit)\s*(?:[:=]|\bis\b)?[\s\"'(*]*$"
    r"|\b(?:is|was)\s+not\s*:[\s\"'(*]*$"
    r"|^\W*[❌✗✘]\W*$",
    I,
)
RANKED = re.compile(
    r"\b(?:rank(?:ing|ed)|order\s+of\s+(?:likelihood|probability)|runners?[\s-]up|second\s+choice)\b", I
)
LIST_NUMBER = re.compile(r"(?<!\w)(\d{1,2})\.\s+(?=[⟦⟪])")
MARKS = re.compile("[✅✓✔☑❌✗✘]")
_BADLY = (
    r"(?:not|n't|(?:the\s+)?least\s+(?:likely|probable)|wrong|incorrect|false|excluded|ruled\s+out"
    r"|out|unlikely|less\s+(?:likely|probable"
    r"|suitable|supported|plausible"
    r"|convincing)|improbable|implausible|rejected|dismissed|eliminated|discarded|unsupported"
    r"|untenable|absent|never|impossible"
    r"|not\s+the\s+(?:answer|case)|inconsistent|incompatible|off\s+the\s+table|disfavou?red|falsch"
    r"|faux|fausse|incorrecta?"
    r"|errad[ao]|sbagliat[ao]|неверн\w*|неправильн\w*)"
)
DENIED_AFTER = re.compile(
    rf"^\s*(?:,?\s*(?:which|that)\s+)?(?:(?:is|was|are|were|seems?|appears?|looks?|can|could|has"
    rf"|have|may|should|must|would|be|been"
    rf"|also|now|safely|clearly|therefore|thus|definitely|quite|much|very|then|confidently"
    rf"|reasonably|ist|est|es|è|é)\s*)+{_BADLY}\b"
    rf"|^\s*[(\[]\s*{_BADLY}\s*[)\]]"
    r"|^\s+(?:does|did|do|would|could|can|will|should)(?:\s*n't|\s+not)\b|^\s+(?:isn't|wasn't"
    r"|aren't|can't|cannot|doesn't|won't)\b"
    r"|^\W{0,3}\s*(?:no|nein|non|✗|✘|❌|x|×|wrong|incorrect|false|out)\s*(?:$|[.,;:!)\n|])"
    r"|^\W?\s*[✗✘❌]\s*[⟦⟪]"
    r"|^\s*(?:lacks?|fails?|contradicts?|conflicts)\b|^\s*(?:不是|不对|错误|不正确|是错|ではな|じゃな|이\s*아니|가\s*아니|아님)"
    r"|^\s+(?:nicht|ist\s+falsch|n'est\s+pas|no\s+es|non\s+è|não\s+é)\b"
    r"|^\W*by\s+(?:exclusion\s+)?ruled\s+out",
    I,
)

ASKED_FOR_THE_WRONG = re.compile(
    r"\b(?:which|what)\b[^.!?]{0,120}\b(?:wrong|incorrect|not|false|least|except|excluded|unlikely)\b[^.!?]{0,120}\?",
    I,
)
"""A question of the reply's own whose answer is none of ours."""
CALLED_THE_ANSWER = re.compile(r"\b(?:answer|choice)\s*(?::|\bis\b)\W*$", I)
HEDGED_BEFORE = re.compile(
    rf"\b(?:maybe|perhaps|possibly|might|may|could|can|cannot\s+exclude|can't\s+exclude|(?:not"
    rf"|never)\s+(?:be\s+)?exclude\w*"
    rf"|(?:not|n't)\s+(?:be\s+)?rule\s+out|whether|if|unless|either|between|from|suspicious"
    rf"|suspicion|consider\w*|differential\w*"
    rf"|versus|vs|rule\s+out|question\s+of|(?<!looks\s)(?<!look\s)(?<!looking\s)like|resembl\w+"
    rf"|mimic\w*|similar|unsure|similarities"
    rf"|guess(?:es)?\s+between|confused?"
    rf"|mistaken|history|known|previous|prior|initially|originally|at\s+first|thought|assumed"
    rf"|evaluate|assess|compare[ds]?"
    rf"|option(?:s|\s+list)|choices|include[sd]?|including|vielleicht|möglicherweise|peut-être"
    rf"|quizás?|forse|talvez|возможно|может"
    rf"|也许|可能)[\s\"'(*]*(?:{_FILL}\b[\s\"'(*]*){{0,5}}$",
    I,
)
HEDGED_AFTER = re.compile(
    r"^\W{0,2}\?|^\s*(?:might|may|could)\b(?!\s+(?:well\s+be\s+)?(?:the\s+)?(?:explain))"
    r"|^\s*(?:was|were|is|are|has\s+been|had\s+been)"
    r"\s+(?:also\s+)?(?:considered|possible|conceivable|suggested|discussed|suspected|initially|my\s+first)"
    r"|^\s*(?:can(?:not|'t)|could\s*n[o']t)\s+be\s+(?:excluded|ruled\s+out|assessed|determined|told)"
    r"|^\s+(?:is|was)\s+(?:also\s+|only\s+)?an?\s+(?:\w+\s+)?(?:option|choice|possibility"
    r"|candidate|consideration)\b"
    r"|^\s+would\b[^.;⟦⟪]*\bif\b"
    r"|^\s+(?:would|(?:typically|usually|generally|normally|often)(?:\s+would)?)\s+(?:show|have|display|present|exhibit"
    r"|demonstrate|require|need|form|contain|be\s+(?:expected|characteri[sz]ed|seen|associated))\b"
    r"|^\s+(?:if|unless)\b|^\W+(?:but\s+)?(?:i\s+am|i'm)\s+not\s+(?:at\s+all\s+)?(?:sure|certain)"
    r"|^\s*-?\s*like\b|^\s+(?:or|versus|vs)\b|^\s*(?:吗|か[?？。]|나요)",
    I,
)
HEDGED_SENTENCE = re.compile(
    r"\b(?:if|unless|whether|were\s+(?:i|it|there)|suppose|assuming|hypothetically"
    r"|would\s+have\s+been|had\s+\w+\s+been"
    r"|depends?|depending)\b|如果|\bwenn\b|\bsi\s+(?=\w+\s+\w+)\b",
    I,
)
"""A condition, or a question put aside: nothing is said in it."""
REFUSAL = re.compile(
    r"\b(?:sorry|apologi[sz]e|unable|not\s+able|can(?:not|'t|\s+not)\s+(?:\w+\s+)?(?:determine"
    r"|tell|say|identify|provide|answer|decide|"
    r"distinguish|conclude|confirm|assess|be\s+(?:determined|answered|certain|sure|distinguished"
    r"|assessed)|make|see|help|give|assist|"
    r"diagnose|pick|choose|select|rule|exclude)|insufficient|impossible\s+to|not\s+possible"
    r"|undecid\w+|difficult\s+to|hard\s+to"
    r"|not\s+enough|no\s+way\s+to|would\s+need|more\s+information|don't\s+know|do\s+not\s+know"
    r"|no\s+idea|not\s+sure|unsure|uncertain"
    r"|consult|as\s+an\s+ai|pathologist\s+(?:should|must|needs)|inconclusive|non-?diagnostic"
    r"|equally\s+(?:likely|possible|plausible)"
    r"|ambiguous|cannot|can't)\b",
    I,
)
DENIED_SENTENCE = re.compile(
    r"\b(?:not|never|doubt|doubts|unlikely|no\s+(?:reason|evidence|proof|sign|indication)|neither"
    r"|deny|disagree|cannot|can't|false"
    r"|wrong|incorrect|refuse|decline|avoid|don't|doesn't|isn't|wasn't|wouldn't|won't|nobody"
    r"|hardly|nothing)\b[^,;:.]*$",
    I,
)
"""A denial before the words that would name the answer, in their part of the sentence."""

_ANSWER = (
    r"(?:answers?|ans|choice|option|selection|selected\s+(?:option|answer|choice)|pick|response|subtype|(?:best|closest)\s+(?:match|fit)"
    r"|verdict|conclusion|diagnosis|impression"
    r"|interpretation|classification|grade|stage|prediction|vote|guess|result|solution|key"
    r"|decision|label|category)"
)
_IS = (
    r"(?:\s+(?:here|to\s+(?:this|the)\s+question|for\s+this\s+(?:question|slide|case|image)"
    r"|in\s+this\s+case|of\s+choice))?\s*(?:is|was|would\s+be|should\s+be|must\s+be|will\s+be"
    r"|has\s+to\s+be|remains|seems\s+to\s+be|appears\s+to\s+be|to\s+be|are|'s|->|=>|→|⇒|=|:|-|\))"
)
_THINKS = (
    r"(?:i|we)(?:'d|'ll|'m|'ve)?(?:\s+(?:would|will|am|have|do|must|have\s+to|can|shall"
    r"|confidently|therefore|thus|definitely|strongly"
    r"|clearly|still|now|hereby|finally|personally|also|then|going|to))*\s+(?:choose|chose"
    r"|choosing|select|selected|selecting|pick|picked"
    r"|picking|go(?:ing)?\s+(?:with|for)|opt(?:ing)?\s+for|favou?r|prefer|vote\s+for|answer|say"
    r"|think|believe|conclude|lean(?:ing)?"
    r"\s+(?:to|towards?)|settle\s+(?:on|for)|diagnose|would\s+call\s+(?:it|this)|call\s+(?:it"
    r"|this)|stick\s+with|decide[d]?\s+(?:on|for)"
    r"|am\s+(?:confident|sure|certain)|see|identify|read\s+(?:it|this)\s+as|classify\s+(?:it"
    r"|this)\s+as|grade\s+(?:it|this)(?:\s+as)?|interpret\s+(?:it|this)\s+as|guess|suggest|propose"
    r"|assign|mark|submit|report)"
)
_FILLER = (
    r"(?:a|an|the|option|choice|letter|number|no\.|answer|one|most|likely|probably|clearly"
    r"|definitely|certainly|obviously|simply|just"
    r"|actually|therefore|thus|hence|indeed|that|it|it's|is|be|would|this|here|as|for|with|best"
    r"|described|consistent|well|really|namely"
    r"|i\.?e|to|my|correct|right|final|now|strongly|confidently|almost|very|apparently|presumably"
    r"|we|are|looking|at|dealing|represents|being"
    r"|case|of|still|in|fact|must|should|have|has|been|quite|an?|consistently|strong|favou?r|go|i"
    r"|say|think|and|so|yes|tissue|slide|classified|graded|diagnosis"
    r"|also|there|shows?|will|image|only|surely|evidently|unequivocally|unmistakably|compatible|by"
    r"|far|known|called|exactly|about|around|nothing|itself|type|diagnosed|la|le|el|il|die|der|das"
    r"|den|opción|opzione|opção|alternativa)"
)
FINAL = re.compile(
    r"\b(?:final\w*|in\s+conclusion|conclusion|ultimately|overall|to\s+conclude|in\s+summary)\b|最终|最終", I
)
ANSWERED_BEFORE = re.compile(
    rf"(?:\b{_ANSWER}{_IS}|\b(?:leaving|leaves|remaining)\b|^\W*(?:i'm\s+|i\s+am\s+|so\W+)?going\s+with\b|^\W*[✅✓✔☑]|\b{_THINKS}\b|\b(?:answer|option|choice"
    rf"|choose|select|pick)\b"
    r"|\b(?:antwort|lösung|auswahl)(?:\s+(?:ist|lautet|wäre))?|\bich\s+(?:wähle|nehme|sage|denke)"
    r"|\bréponse(?:\s+(?:est|correcte|finale))*"
    r"|\bje\s+(?:choisis|dirais|pense)(?:\s+que)?|\b(?:respuesta|opción)(?:\s+(?:es|correcta"
    r"|final))*|\b(?:elijo|escojo|yo\s+diría|elegiría)"
    r"|\brisposta(?:\s+(?:è|corretta|giusta))*|\b(?:scelgo|direi)|\bresposta(?:\s+(?:é|correta"
    r"|certa|final))*|\b(?:escolho|eu\s+diria)"
    r"|\b(?:ответ|вариант|выбираю|правильный\s+ответ)(?:\s+(?:это|будет))?|\b(?:odpowiedź|cevap"
    r"|svar|svaret|antwoord|vastaus|jawaban|răspuns|odpověď|απάντηση)(?:\s+(?:to|is|är|er|on"
    r"|adalah))*"
    r"|(?:đáp\s+án)(?:\s+là)?|答案(?:应该|應該)?(?:是|为|為|选|選)?|选择?|選擇?|选项|選項|正解(?:は)?|答え(?:は)?|回答(?:は)?"
    r"|解答(?:は)?|정답(?:은)?|답(?:은|변은)?|الإجابة(?:\s+هي)?|الجواب|उत्तर(?:\s+है)?)"
    rf"\W*(?:{_FILLER}\b\W*){{0,7}}$",
    I,
)
STATED_BEFORE = re.compile(
    rf"(?:\b(?:it|this|that|these|they|those|we\s+have|tumou?r|lesion|tissue|slide|specimen|image"
    rf"|findings?|features?|appearances?|picture|pattern|sample"
    r"|biopsy|section|morphology|histology|process|entity|case|patient|everything|all|evidence)\s*"
    r"(?:'s|is|are|was|were|must\s+be|has\s+to\s+be|have\s+to\s+be|looks\s+like|look\s+like"
    r"|appears?\s+to\s+be|seems?\s+to\s+be|represents?|would\s+be|should\s+be"
    r"|shows?|suggests?|indicates?|supports?|favou?rs?|points?\s+(?:to|towards?)|speaks?\s+for"
    r"|argues?\s+for|fits?|confirms?|demonstrates?|reveals?|contains?|corresponds?\s+to"
    r"|comes?\s+from|originates?\s+from)"
    r"|\b(?:consistent|compatible|in\s+keeping|in\s+line|agrees?)\s+with|\b(?:diagnostic"
    r"|indicative|suggestive|characteristic|typical|pathognomonic)\s+(?:of|for)"
    r"|\b(?:therefore|thus|hence|so|conclusion|consequently|accordingly|definitely|certainly"
    r"|clearly|surely|probably|most\s+likely|likely|undoubtedly|obviously|yes)\b"
    r"|\b(?:es|das|dies)\s+ist|\bc'est|\bes|\bè|\bé|\bэто|\bthen|是|属于|考虑为?|です|=>|→|⇒|->)"
    rf"\W*(?:{_FILLER}\b\W*){{0,7}}$",
    I,
)
_RIGHTLY = (
    r"(?!an?\s+(?:\w+\s+)?(?:option|choice|answer|possibility|candidate|consideration)\b)(?:(?:the"
    r"|my|clearly|most|best|definitely|likely|certainly|very|only|one|therefore|thus"
    r"|obviously|probably|strongly|far|by|also|more|much|overall|final|well|that|is|a|an|in"
    r"|surely)\s+)*"
    r"(?:correct|right|true|answer|choice|diagnosis|best|most\s+likely|most\s+probable|likely"
    r"|likel(?:y|iest)|probable|favou?red|preferred|fit|match|final|selected|chosen"
    r"|supported"
    r"|confirmed|present|it|winner|pick|conclusion|appropriate|accurate|consistent|obvious|certain"
    r"|evident|better|stronger|richtig|korrekt|correcte|correcta|exacte|giusta|corretta|correta"
    r"|certa|верн\w+|правильн\w+|suitable|plausible|convincing|compatible)\b"
)
ANSWERED_AFTER = re.compile(
    rf"^\W*(?:is|was|are|seems?(?:\s+to\s+be)?|looks?|must\s+be|would\s+be|appears?(?:\s+to\s+be)?"
    rf"|remains|wäre|serait|sería|has\s+to\s+be|should\s+be|it\s+is|=|ist|est|es|è|é"
    rf"|,\s*which\s+is)\s+{_RIGHTLY}"
    r"|^\s+it\s+is\b|^\s+(?:remains?|is\s+left)\b|^\s+(?:fits?|matches|explains|describes|accounts"
    r"|suits|wins|answers)\b"
    r"|^\s+(?:best|most\s+closely|clearly)\s+(?:fits?|matches|describes|explains|represents"
    r"|captures|suits|corresponds|characteri[sz]es)"
    r"|^\W{0,3}\s*(?:yes|correct|right|true|✓|✔|✅|☑)\s*(?:$|[.,;:!)\n|])|^\s*(?:是正确|正确|是对的|が正し|です"
    r"|を選|입니다|이\s*정답|이다|を?選択)"
    r"|^\W*(?:my\s+)?(?:final\s+)?(?:answer|choice)\b",
    I,
)
JOINER = re.compile(
    r"^\s*(?:,?\s*(?:or|and|nor|and/or|or\s+else|or\s+(?:maybe|perhaps|possibly)|as\s+well\s+as"
    r"|plus|versus|vs\.?|&|/|\||und|oder|et|ou|y|o|e|и|или|或者?|和|及|还是|または|と|또는|또는)|/|\||&)\s*"
    r"(?:(?:a|an|the|option|choice|of|possibly|maybe|perhaps|even|both|either|with|to|eine?|un|une"
    r"|una)\s+)*\W{0,2}$",
    I,
)
CORRECTION = re.compile(
    r"\b(?:wait|actually|correction|scratch\s+that|on\s+(?:reflection|second\s+thoughts?|closer"
    r"|balance|review)|instead|sorry|however|but|yet|nevertheless|rather|"
    r"revised?|changed?\s+my|reconsider\w*|hmm|nonetheless|no(?=,))\b"
    r"|but\s+that\s+is\s+wrong|但|但是|しかし|\baber\b|\bmais\b|\bpero\b|\bma\b|\bmas\b|\bно\b",
    I,
)
EXPECTS = re.compile(
    rf"\b(?:final\s+answer|answer|correct\s+(?:option|choice|answer)|best\s+(?:option|choice"
    rf"|answer)|diagnosis){_IS}",
    I,
)
ONLY_FILLER = re.compile(
    rf"^\W*(?:(?:{_FILLER}|definitely|sure|okay|ok|well|wait|no|not|actually|hmm|hm|sorry|mean"
    rf"|rather|correction|instead|reflection|hold|let|me|scratch|second|thoughts?|or|but|final"
    rf"|answer|option|because|confident|confidence|high|certain|100|%|please|diagnosis|obviously"
    rf"|of\s+course)\b\W*){{0,7}}$",
    I,
)
ABBREVIATIONS = (
    (re.compile(r"\b(vs|e\.?g|i\.?e|cf|approx|fig|dr)\.(?=\s*\S)", I), r"\1"),
    (re.compile(r"\b(no|nr)\.(?=\s*[\d⟪])", I), r"\1"),
)
CONTRAST = re.compile(
    r"^\W*(?:rather\s+than|instead\s+of|not|and\s+only|and\s+not|but\s+not|over|as\s+opposed\s+to|more\s+than"
    r"|statt|und\s+nicht|nicht|et\s+non|plutôt\s+que|y\s+no|e\s+non"
    r"|и\s+не|а\s+не|不是|而不是)\b",
    I,
)
BUT = re.compile(
    rf"^\W*(?:but|ではなく|이?\s*아니라|sondern|mais|sino|ma|mas|а|而是|;|it's|rather"
    rf"|instead)?\W*(?:{_FILLER}\b\W*){{0,5}}$",
    I,
)
ADJACENT = re.compile(r"^\s*[,;]?\s*$")
TAKEN_BACK = re.compile(
    r"^\W*(?:(?:oh|hmm?|no|wait|sorry|actually|hold\s+on|scratch\s+that|correction|(?:that|this"
    r"|it)(?:\s+is|'s|\s+was)?(?:\s+not)?(?:\s+(?:wrong|right|correct|incorrect|a\s+mistake"
    r"|an\s+error))?|let\s+me\s+\w+|i(?:\s+am|'m)\s+not\s+(?:sure|certain)|i\s+(?:was|am)\s+wrong"
    r"|i\s+made\s+a\s+mistake|on\s+(?:second\s+thoughts?|reflection))\W*)+$",
    I,
)
DISOWNED = re.compile(
    r"^\W*(?:(?:but|however)\W+)?(?:i\s+(?:disagree|was\s+wrong|take\s+(?:that|it)\s+back)|(?:this|that)(?:\s+(?:is|was)|'s)\s+"
    r"(?:wrong|incorrect|not\s+(?:right|correct)))\b",
    I,
)
OFFERS = re.compile(r"\b(?:answers?|options?|choices?|diagnosis|likel\w+|best)\b[^.;]*$", I)
IS_ONLY = re.compile(rf"^\W*(?:is|would\s+be|must\s+be|seems|remains)\W*(?:{_FILLER}\b\W*){{0,4}}$", I)
BUT_IS = re.compile(
    rf"^\W*(?:but|yet|however)\W+(?:it\s+|this\s+)?(?:is|was|represents|rather|actually"
    rf"|instead)\b\W*(?:{_FILLER}\b\W*){{0,4}}$",
    I,
)
LESS_THAN = re.compile(
    rf"\b(?:less|worse|weaker)\s+(?:\w+\s+)?than[\s\"'(*]*(?:{_FILL}\b[\s\"'(*]*){{0,3}}$", I
)
CONCEDES = re.compile(r"^\W*(?:even\s+though|although|though|while|despite)\b[^,]*$", I)
LOOKS_LIKE = re.compile(rf"\b(?:looks?|looking)\s+(?:\w+\s+)?like\W*(?:{_FILLER}\b\W*){{0,4}}$", I)
