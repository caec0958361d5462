"""Claims in other languages are read where there are words for them, else marked as not checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import agent_fakes as fakes
import pytest

from agent.evidence.check import check_answer, mark, not_checked
from agent.evidence.claims import NOT_READ, judged, said, says_absence
from agent.evidence.language import foreign_language, language_of, languages, passages
from agent.graph.follow import write_finished
from agent.run.records import Action, Answer, Claim, Evidence, SlideFacts, Step
from core_model.files import write_json
from core_model.slides.box import Box
from tools.records import Observation

PRESENT, ABSENT, OPEN = "present", "absent", "open"
SENTENCES: dict[str, list[tuple[str, str, float | None]]] = {
    "de": [
        ("Keine Mitosen.", ABSENT, 0.5),
        ("Es sind keine Mitosen zu sehen.", ABSENT, 0.5),
        ("Mitosen sind nicht nachweisbar.", ABSENT, 0.5),
        ("Mitosen fehlen.", ABSENT, 0.5),
        ("0 Mitosen pro 10 HPF.", ABSENT, 0.5),
        ("Mitosen: 0/10 HPF", ABSENT, 0.5),
        ("Null Mitosen.", ABSENT, 0.5),
        ("Die Mitosezahl beträgt 0.", ABSENT, 0.5),
        ("Fehlen von Kernatypien.", ABSENT, 0.5),
        ("Keine Drüsen erkennbar.", ABSENT, 2.0),
        ("Keine Gefäßinvasion.", ABSENT, 2.0),
        ("Kein Nachweis von Lymphozyten.", ABSENT, 2.0),
        ("Ohne Nekrose.", ABSENT, 8.0),
        ("Keine Nekrosen.", ABSENT, 8.0),
        ("Kein Anhalt für Malignität.", ABSENT, 8.0),
        ("Die Ränder sind frei von Tumor.", ABSENT, 8.0),
        ("Nekrose ist nicht vorhanden.", ABSENT, 8.0),
        ("Tumor vorhanden, aber keine Nekrose.", ABSENT, 8.0),
        ("Benignes Gewebe.", ABSENT, 8.0),
        ("Weder Nekrose noch Blutung.", ABSENT, 8.0),
        ("Es finden sich zahlreiche Mitosen.", PRESENT, 0.5),
        ("Mitosen sind häufig.", PRESENT, 0.5),
        ("Die Zellkerne sind groß.", PRESENT, 0.5),
        ("Drüsen sind vorhanden.", PRESENT, 2.0),
        ("Nekrose ist vorhanden.", PRESENT, 8.0),
        ("Nicht nur Nekrose, sondern auch Blutung.", PRESENT, 8.0),
        ("Es besteht kein Zweifel, dass Nekrose vorhanden ist.", PRESENT, 8.0),
        ("Nekrose fehlt nicht.", PRESENT, 8.0),
        ("Der Rand ist nicht frei von Tumor.", PRESENT, 8.0),
        ("Mäßig differenziertes Plattenepithelkarzinom.", PRESENT, 8.0),
        ("Nekrose ist nicht auszuschließen.", OPEN, None),
        ("Mitosen nicht beurteilbar.", OPEN, None),
        ("Es ist unklar, ob Mitosen vorhanden sind.", OPEN, None),
    ],
    "fr": [
        ("Absence de mitoses.", ABSENT, 0.5),
        ("Pas de mitose.", ABSENT, 0.5),
        ("Aucune mitose n'est observée.", ABSENT, 0.5),
        ("Les mitoses ne sont pas visibles.", ABSENT, 0.5),
        ("On ne voit pas de mitoses.", ABSENT, 0.5),
        ("0 mitose pour 10 champs.", ABSENT, 0.5),
        ("Zéro mitose.", ABSENT, 0.5),
        ("Mitoses : 0", ABSENT, 0.5),
        ("Mitoses absentes.", ABSENT, 0.5),
        ("Sans atypie nucléaire.", ABSENT, 0.5),
        ("Il n’y a pas de glandes.", ABSENT, 2.0),
        ("Absence d'invasion vasculaire.", ABSENT, 2.0),
        ("Pas d'inflammation.", ABSENT, 2.0),
        ("Pas de nécrose.", ABSENT, 8.0),
        ("Sans nécrose.", ABSENT, 8.0),
        ("Marges indemnes de tumeur.", ABSENT, 8.0),
        ("La tumeur est dépourvue de nécrose.", ABSENT, 8.0),
        ("Ni nécrose ni hémorragie.", ABSENT, 8.0),
        ("Tissu bénin.", ABSENT, 8.0),
        ("Tumeur présente, mais pas de nécrose.", ABSENT, 8.0),
        ("Les mitoses sont fréquentes.", PRESENT, 0.5),
        ("Présence de mitoses.", PRESENT, 0.5),
        ("Des glandes cribriformes.", PRESENT, 2.0),
        ("La nécrose est présente.", PRESENT, 8.0),
        ("Pas seulement de la nécrose.", PRESENT, 8.0),
        ("Il n'y a pas de doute que la nécrose est présente.", PRESENT, 8.0),
        ("La nécrose n'est pas absente.", PRESENT, 8.0),
        ("Carcinome épidermoïde bien différencié.", PRESENT, 8.0),
        ("Carcinome à petites cellules.", PRESENT, 8.0),
        ("La nécrose ne peut pas être exclue.", OPEN, None),
        ("Mitoses non évaluables.", OPEN, None),
    ],
    "es": [
        ("Ausencia de mitosis.", ABSENT, 0.5),
        ("No se observan mitosis.", ABSENT, 0.5),
        ("Sin mitosis.", ABSENT, 0.5),
        ("No hay mitosis.", ABSENT, 0.5),
        ("Mitosis ausentes.", ABSENT, 0.5),
        ("Las mitosis no son visibles.", ABSENT, 0.5),
        ("0 mitosis por 10 campos.", ABSENT, 0.5),
        ("Cero mitosis.", ABSENT, 0.5),
        ("Mitosis: 0", ABSENT, 0.5),
        ("Ninguna mitosis.", ABSENT, 0.5),
        ("Sin atipia nuclear.", ABSENT, 0.5),
        ("No hay glándulas.", ABSENT, 2.0),
        ("Sin invasión vascular.", ABSENT, 2.0),
        ("Carece de inflamación.", ABSENT, 2.0),
        ("Sin necrosis.", ABSENT, 8.0),
        ("Márgenes libres de tumor.", ABSENT, 8.0),
        ("Negativo para malignidad.", ABSENT, 8.0),
        ("Ni necrosis ni hemorragia.", ABSENT, 8.0),
        ("Tejido benigno.", ABSENT, 8.0),
        ("Hay tumor, pero no hay necrosis.", ABSENT, 8.0),
        ("Las mitosis son frecuentes.", PRESENT, 0.5),
        ("Se observan numerosas mitosis.", PRESENT, 0.5),
        ("Glándulas cribiformes.", PRESENT, 2.0),
        ("Hay necrosis.", PRESENT, 8.0),
        ("No solo hay necrosis, sino también hemorragia.", PRESENT, 8.0),
        ("No hay duda de que hay necrosis.", PRESENT, 8.0),
        ("La necrosis no está ausente.", PRESENT, 8.0),
        ("Carcinoma escamoso moderadamente diferenciado.", PRESENT, 8.0),
        ("Carcinoma de células escamosas.", PRESENT, 8.0),
        ("No se puede descartar necrosis.", OPEN, None),
        ("Mitosis no evaluables.", OPEN, None),
    ],
    "it": [
        ("Assenza di mitosi", ABSENT, 0.5),
        ("Assenza di mitosi.", ABSENT, 0.5),
        ("Non si osservano mitosi.", ABSENT, 0.5),
        ("Nessuna mitosi.", ABSENT, 0.5),
        ("Senza mitosi.", ABSENT, 0.5),
        ("Mitosi assenti.", ABSENT, 0.5),
        ("Le mitosi non sono visibili.", ABSENT, 0.5),
        ("0 mitosi per 10 HPF.", ABSENT, 0.5),
        ("Zero mitosi.", ABSENT, 0.5),
        ("Mitosi: 0", ABSENT, 0.5),
        ("Mancanza di atipie nucleari.", ABSENT, 0.5),
        ("Non sono presenti ghiandole.", ABSENT, 2.0),
        ("Assenza di invasione vascolare.", ABSENT, 2.0),
        ("Privo di infiammazione.", ABSENT, 2.0),
        ("Non c'è necrosi.", ABSENT, 8.0),
        ("Margini liberi da tumore.", ABSENT, 8.0),
        ("Negativo per malignità.", ABSENT, 8.0),
        ("Né necrosi né emorragia.", ABSENT, 8.0),
        ("Tessuto benigno.", ABSENT, 8.0),
        ("Il tumore è presente, ma senza necrosi.", ABSENT, 8.0),
        ("Le mitosi sono frequenti.", PRESENT, 0.5),
        ("Si osservano numerose mitosi.", PRESENT, 0.5),
        ("Ghiandole cribriformi.", PRESENT, 2.0),
        ("Presenza di necrosi.", PRESENT, 8.0),
        ("Non solo necrosi, ma anche emorragia.", PRESENT, 8.0),
        ("Non c'è dubbio che vi sia necrosi.", PRESENT, 8.0),
        ("La necrosi non è assente.", PRESENT, 8.0),
        ("Carcinoma squamoso moderatamente differenziato.", PRESENT, 8.0),
        ("Carcinoma a piccole cellule.", PRESENT, 8.0),
        ("Non si può escludere necrosi.", OPEN, None),
        ("Mitosi non valutabili.", OPEN, None),
    ],
    "pt": [
        ("Ausência de mitoses.", ABSENT, 0.5),
        ("Não se observam mitoses.", ABSENT, 0.5),
        ("Sem mitoses.", ABSENT, 0.5),
        ("Não há mitoses.", ABSENT, 0.5),
        ("Mitoses ausentes.", ABSENT, 0.5),
        ("As mitoses não foram identificadas.", ABSENT, 0.5),
        ("0 mitoses por 10 campos.", ABSENT, 0.5),
        ("Zero mitoses em 10 campos, não há mais.", ABSENT, 0.5),
        ("Nenhuma mitose.", ABSENT, 0.5),
        ("Sem atipia nuclear.", ABSENT, 0.5),
        ("Não há glândulas.", ABSENT, 2.0),
        ("Ausência de invasão vascular.", ABSENT, 2.0),
        ("Sem inflamação.", ABSENT, 2.0),
        ("Não há necrose.", ABSENT, 8.0),
        ("Margens livres de tumor.", ABSENT, 8.0),
        ("Negativo para malignidade.", ABSENT, 8.0),
        ("Nem necrose nem hemorragia.", ABSENT, 8.0),
        ("Tecido benigno.", ABSENT, 8.0),
        ("Há tumor, mas não há necrose.", ABSENT, 8.0),
        ("As mitoses são frequentes.", PRESENT, 0.5),
        ("Observam-se numerosas mitoses.", PRESENT, 0.5),
        ("Glândulas cribriformes.", PRESENT, 2.0),
        ("Presença de necrose.", PRESENT, 8.0),
        ("Não só necrose, mas também hemorragia.", PRESENT, 8.0),
        ("Não há dúvida de que há necrose.", PRESENT, 8.0),
        ("A necrose não está ausente.", PRESENT, 8.0),
        ("Carcinoma escamoso moderadamente diferenciado.", PRESENT, 8.0),
        ("Carcinoma de pequenas células.", PRESENT, 8.0),
        ("Não se pode excluir necrose.", OPEN, None),
        ("Mitoses não avaliáveis.", OPEN, None),
    ],
    "ru": [
        ("Митозы не обнаружены.", ABSENT, 0.5),
        ("Митозов нет.", ABSENT, 0.5),
        ("Нет митозов.", ABSENT, 0.5),
        ("Отсутствие митозов.", ABSENT, 0.5),
        ("Митозы отсутствуют.", ABSENT, 0.5),
        ("Фигуры митоза не выявлены.", ABSENT, 0.5),
        ("0 митозов на 10 полей зрения.", ABSENT, 0.5),
        ("Ноль митозов.", ABSENT, 0.5),
        ("Митозы: 0", ABSENT, 0.5),
        ("Без ядерной атипии.", ABSENT, 0.5),
        ("Железы не видны.", ABSENT, 2.0),
        ("Сосудистая инвазия не выявлена.", ABSENT, 2.0),
        ("Без признаков воспаления.", ABSENT, 2.0),
        ("Некроза нет.", ABSENT, 8.0),
        ("Без некроза.", ABSENT, 8.0),
        ("Края резекции свободны от опухоли.", ABSENT, 8.0),
        ("Ни некроза, ни кровоизлияний.", ABSENT, 8.0),
        ("Доброкачественная ткань.", ABSENT, 8.0),
        ("Опухоль есть, но некроза нет.", ABSENT, 8.0),
        ("Митозы многочисленны.", PRESENT, 0.5),
        ("Видны митозы.", PRESENT, 0.5),
        ("Крибриформные железы.", PRESENT, 2.0),
        ("Имеются очаги некроза.", PRESENT, 8.0),
        ("Не только некроз, но и кровоизлияние.", PRESENT, 8.0),
        ("Нет сомнений, что некроз есть.", PRESENT, 8.0),
        ("Некроз не отсутствует.", PRESENT, 8.0),
        ("Умеренно дифференцированный плоскоклеточный рак.", PRESENT, 8.0),
        ("Нельзя исключить некроз.", OPEN, None),
        ("Неясно, есть ли митозы.", OPEN, None),
    ],
    "zh": [
        ("未见核分裂象。", ABSENT, 0.5),
        ("无核分裂象。", ABSENT, 0.5),
        ("没有核分裂象", ABSENT, 0.5),
        ("核分裂象：0/10 HPF", ABSENT, 0.5),
        ("核分裂象为0。", ABSENT, 0.5),
        ("核分裂象缺如。", ABSENT, 0.5),
        ("未发现细胞异型性。", ABSENT, 0.5),
        ("未見核分裂象。", ABSENT, 0.5),
        ("未见腺体。", ABSENT, 2.0),
        ("无血管侵犯。", ABSENT, 2.0),
        ("未见明显炎症。", ABSENT, 2.0),
        ("未见坏死。", ABSENT, 8.0),
        ("无坏死。", ABSENT, 8.0),
        ("切缘阴性。", ABSENT, 8.0),
        ("良性组织。", ABSENT, 8.0),
        ("可见肿瘤，但无坏死。", ABSENT, 8.0),
        ("可见肿瘤，未见坏死。", ABSENT, 8.0),
        ("可见多量核分裂象。", PRESENT, 0.5),
        ("核分裂象易见。", PRESENT, 0.5),
        ("可见腺体。", PRESENT, 2.0),
        ("可见坏死。", PRESENT, 8.0),
        ("不仅有坏死，还有出血。", PRESENT, 8.0),
        ("毫无疑问有坏死。", PRESENT, 8.0),
        ("并非没有坏死。", PRESENT, 8.0),
        ("中分化鳞状细胞癌。", PRESENT, 8.0),
        ("不能排除坏死。", OPEN, None),
        ("坏死无法评估。", OPEN, None),
        ("是否有坏死？", OPEN, None),
    ],
    "ja": [
        ("核分裂像は認められない。", ABSENT, 0.5),
        ("核分裂像なし", ABSENT, 0.5),
        ("核分裂像を認めない。", ABSENT, 0.5),
        ("核分裂像はみられません。", ABSENT, 0.5),
        ("核分裂像は0個です。", ABSENT, 0.5),
        ("核分裂像：0/10 HPF である。", ABSENT, 0.5),
        ("核異型は見られない。", ABSENT, 0.5),
        ("腺管は認められない。", ABSENT, 2.0),
        ("脈管侵襲を認めない。", ABSENT, 2.0),
        ("炎症所見は認めない。", ABSENT, 2.0),
        ("壊死はない。", ABSENT, 8.0),
        ("壊死を伴わない。", ABSENT, 8.0),
        ("断端は陰性である。", ABSENT, 8.0),
        ("良性の組織です。", ABSENT, 8.0),
        ("腫瘍を認めるが、壊死はない。", ABSENT, 8.0),
        ("核分裂像が多数認められる。", PRESENT, 0.5),
        ("核分裂像が目立つ。", PRESENT, 0.5),
        ("腺管が認められる。", PRESENT, 2.0),
        ("壊死を認める。", PRESENT, 8.0),
        ("壊死だけでなく出血もある。", PRESENT, 8.0),
        ("壊死があることは間違いない。", PRESENT, 8.0),
        ("壊死がないわけではない。", PRESENT, 8.0),
        ("中分化の扁平上皮癌である。", PRESENT, 8.0),
        ("壊死は否定できない。", OPEN, None),
        ("壊死の有無は不明である。", OPEN, None),
    ],
}
CASES = [(code, *case) for code, cases in SENTENCES.items() for case in cases]


@pytest.mark.parametrize(("code", "text", "says", "mpp"), CASES, ids=[case[1] for case in CASES])
def test_what_a_sentence_says_in_its_language(code: str, text: str, says: str, mpp: float | None) -> None:
    assert language_of(text) == code or passages(text)[0].language in languages()
    words = said(text)
    assert not words.unread
    assert bool(words.absent) == (says == ABSENT), words
    if says == ABSENT:
        assert min(scope.mpp for scope in words.absent) <= (mpp or 0), words
    elif says == PRESENT:
        assert min(scope.mpp for scope in words.present) == mpp, words
    else:
        assert not any(scope.word for scope in words.present), words


THINGS: dict[str, dict[float, str]] = {
    "de": {
        0.5: "Mitosen;Kernteilungsfiguren;Kernatypien;Nukleolen;Hyperchromasie;Apoptosen;Tumorzellen",
        2.0: "Drüsen;Follikel;Lymphozyten;Entzündung;Invasion;Gefäßeinbrüche;Granulome;Dysplasie;Ulzeration",
        8.0: "Tumor;Karzinome;Malignität;Metastasen;Nekrosen;Blutungen;Abszesse;Fibrose",
    },
    "fr": {
        0.5: "mitoses;figures mitotiques;noyaux;nucléoles;atypies;apoptose;éosinophiles;bactéries;cellules",
        2.0: "glandes;papilles;lymphocytes;inflammation;invasion;emboles;granulomes;dysplasie;ulcération",
        8.0: "tumeur;carcinome;malignité;métastases;nécrose;hémorragie;abcès;fibrose",
    },
    "es": {
        0.5: "mitosis;figuras mitóticas;núcleos;nucléolos;atipia;apoptosis;eosinófilos;bacterias;células",
        2.0: "glándulas;papilas;linfocitos;inflamación;invasión;granulomas;displasia;úlceras",
        8.0: "tumor;carcinoma;malignidad;metástasis;necrosis;hemorragia;abscesos;fibrosis",
    },
    "it": {
        0.5: "mitosi;figure mitotiche;nuclei;nucleoli;atipie;apoptosi;eosinofili;batteri;cellule",
        2.0: "ghiandole;papille;linfociti;infiammazione;invasione;granulomi;displasia;ulcerazione",
        8.0: "tumore;carcinoma;malignità;metastasi;necrosi;emorragia;ascessi;fibrosi",
    },
    "pt": {
        0.5: "mitoses;figuras mitóticas;núcleos;nucléolos;atipias;apoptose;eosinófilos;bactérias;células",
        2.0: "glândulas;papilas;linfócitos;inflamação;invasão;granulomas;displasia;úlceras",
        8.0: "tumor;carcinoma;malignidade;metástases;necrose;hemorragia;abscessos;fibrose",
    },
    "ru": {
        0.5: "митозы;фигуры митоза;ядрышки;атипия;апоптоз;эозинофилы;бактерии;клетки",
        2.0: "железы;лимфоциты;воспаление;инвазия;гранулёмы;дисплазия;изъязвление",
        8.0: "опухоль;рак;метастазы;некроз;кровоизлияния;абсцессы;фиброз",
    },
    "zh": {
        0.5: "核分裂象;核仁;细胞异型;多形性;凋亡;嗜酸性粒细胞;细菌;真菌",
        2.0: "腺体;乳头;淋巴细胞;炎症;浸润;血管侵犯;肉芽肿;异型增生;溃疡",
        8.0: "肿瘤;癌;恶性病变;转移;坏死;出血;脓肿;纤维化",
    },
    "ja": {
        0.5: "核分裂像;核小体;核異型;アポトーシス;好酸球;細菌;真菌",
        2.0: "腺管;乳頭;リンパ球;炎症;浸潤;脈管侵襲;肉芽腫;異形成;潰瘍",
        8.0: "腫瘍;癌;悪性所見;転移;壊死;出血;膿瘍;線維化",
    },
}
PHRASES: dict[str, tuple[list[str], list[str]]] = {
    "de": (
        [
            "Keine {x}.",
            "Kein Hinweis auf {x}.",
            "{x} nicht nachweisbar.",
            "{x} sind nicht vorhanden.",
            "{x} fehlen.",
            "Ohne {x}.",
            "Frei von {x}.",
            "{x}: 0",
            "Null {x}.",
            "Fehlen von {x}.",
            "Es wurden keine {x} gefunden.",
            "{x}: keine",
        ],
        [
            "{x} sind vorhanden.",
            "Nicht nur {x}.",
            "Es besteht kein Zweifel, dass {x} vorhanden sind.",
            "{x} fehlen nicht.",
        ],
    ),
    "fr": (
        [
            "Pas de {x}.",
            "Absence de {x}.",
            "Sans {x}.",
            "Aucune {x} visible.",
            "On n'observe pas de {x}.",
            "{x} : 0",
            "Zéro {x}.",
            "{x} absentes.",
            "Il n'y a aucune {x}.",
            "Dépourvu de {x}.",
            "{x} : aucune",
        ],
        ["Présence de {x}.", "Pas seulement {x}.", "Sans aucun doute {x}."],
    ),
    "es": (
        [
            "Sin {x}.",
            "No hay {x}.",
            "Ausencia de {x}.",
            "No se observan {x}.",
            "No se identifican {x}.",
            "{x}: 0",
            "Cero {x}.",
            "{x} ausentes.",
            "Carece de {x}.",
            "Libre de {x}.",
            "Sin evidencia de {x}.",
        ],
        ["Se observan {x}.", "No solo {x}.", "Sin duda hay {x}.", "No faltan {x}."],
    ),
    "it": (
        [
            "Senza {x}.",
            "Assenza di {x}.",
            "Non si osservano {x}.",
            "Non sono presenti {x}.",
            "Nessuna {x}.",
            "{x}: 0",
            "Zero {x}.",
            "{x} assenti.",
            "Privo di {x}.",
            "Senza evidenza di {x}.",
        ],
        ["Si osservano {x}.", "Non solo {x}.", "Senza dubbio {x}.", "Non mancano {x}."],
    ),
    "pt": (
        [
            "Sem {x}.",
            "Ausência de {x}.",
            "Não se observam {x}.",
            "Não há {x}.",
            "Não foram identificadas {x}.",
            "Nenhuma {x}.",
            "{x}: 0, não há",
            "{x} ausentes.",
            "Livre de {x}.",
            "Sem evidência de {x}.",
        ],
        ["Observam-se {x}.", "Não só {x}.", "Sem dúvida há {x}.", "Não faltam {x}."],
    ),
    "ru": (
        [
            "{x}: нет",
            "{x} не обнаружены.",
            "{x} отсутствуют.",
            "{x} не видны.",
            "Нет: {x}.",
            "{x}: 0",
            "Отсутствие: {x}.",
        ],
        ["Видны {x}.", "Не только {x}.", "Без сомнения, {x}.", "{x} не отсутствуют."],
    ),
    "zh": (
        [
            "未见{x}。",
            "无{x}。",
            "没有{x}。",
            "未发现明显{x}。",
            "{x}：0",
            "{x}：无",
            "不存在{x}。",
            "{x}缺如。",
            "缺乏{x}。",
            "零{x}。",
        ],
        ["可见{x}。", "不仅{x}。", "毫无疑问有{x}。", "并非没有{x}。"],
    ),
    "ja": (
        [
            "{x}は認められない。",
            "{x}を認めない。",
            "{x}なし。",
            "{x}は見られない。",
            "{x}は確認できない。",
            "{x}を欠く。",
            "{x}は0である。",
            "{x}は陰性です。",
        ],
        ["{x}を認める。", "{x}だけでなく出血もある。", "{x}は間違いない。", "{x}がないわけではない。"],
    ),
}


@pytest.mark.parametrize("code", PHRASES)
def test_every_claimed_thing_may_be_absent_or_present_in_every_language(code: str) -> None:
    absences, presences = PHRASES[code]
    wrong = []
    for mpp, things in THINGS[code].items():
        for thing in things.split(";"):
            for phrase in absences:
                words = said(text := phrase.format(x=thing))
                if words.unread or not words.absent or min(s.mpp for s in words.absent) > mpp:
                    wrong.append((text, words))
            for phrase in presences:
                words = said(text := phrase.format(x=thing))
                if words.unread or words.absent or mpp not in [s.mpp for s in words.present]:
                    wrong.append((text, words))
    assert not wrong, (len(wrong), wrong[:30])


UNREAD = [
    "Geen mitosen gezien.",
    "Er is geen necrose.",
    "Tumor zonder necrose.",
    "Nie stwierdzono martwicy.",
    "Brak mitoz.",
    "Brak martwicy.",
    "Rak bez martwicy.",
    "Inga mitoser.",
    "Ingen nekros.",
    "Ingen mitoser påvist.",
    "Tumor uden nekrose.",
    "Nekrose er ikke til stede.",
    "Mitoz izlenmedi.",
    "Nekroz yok.",
    "Fără necroză.",
    "Absența mitozelor.",
    "Mitózy nejsou přítomny.",
    "Mitooseja ei todettu.",
    "Mitózis nem látható.",
    "Мітози не виявлені.",
    "Не се откриват митози.",
    "유사분열은 관찰되지 않는다.",
    "لا يوجد انقسام",
    "Δεν παρατηρούνται μιτώσεις.",
    "Tidak ditemukan mitosis.",
    "Không thấy phân bào.",
    "אין מיטוזות",
    "कोई माइटोसिस नहीं",
]


@pytest.mark.parametrize("text", UNREAD)
def test_a_language_without_words_is_not_read(text: str) -> None:
    assert language_of(text) is None
    assert said(text).unread


ENGLISH = [
    "Adenocarcinoma.",
    "Luminal A",
    "Leiomyosarcoma",
    "HER2+",
    "T1",
    "yes",
    "Grade 2.",
    "Squamous pearls",
    "Invasive ductal carcinoma",
    "Clear cell renal cell carcinoma",
    "Irregular nests with keratin pearls",
    "Marked pleomorphism",
    "Carcinoma in situ",
    "BENIGN TISSUE",
    "Papillary thyroid carcinoma",
    "Diffuse large B-cell lymphoma",
    "Gastrointestinal stromal tumor",
    "Isocitrate dehydrogenase mutant astrocytoma",
    "Hepatocellular carcinoma: leads in 2 of 4 looks.",
    "Usual type hyperplasia with columnar change",
]


@pytest.mark.parametrize("text", ENGLISH)
def test_english_is_known_by_few_words(text: str) -> None:
    assert language_of(text) == "en"


def test_each_sentence_has_its_own_language() -> None:
    text = "Non si osservano mitosi. Of the tissue, 6 % was shown at 0.5 µm/px or finer. Brak martwicy."
    assert [passage.language for passage in passages(text)] == ["it", "en", None]
    assert says_absence(text)
    assert [scope.word for scope in said(text).absent] == ["mitosi"]


BOX = Box(0, 0, 400, 300)
POLISH = "Brak mitoz w obrazie, nie stwierdzono martwicy."


def step(index: int = 1, mpp: float = 0.25) -> Step:
    seen = Observation(tool="zoom", text="Seen.", box=BOX, mpp=mpp, image="regions/a.jpg")
    return Step(index=index, action=Action(tool="zoom"), observation=seen, finding="f")


def answer(text: str, *claims: Claim) -> Answer:
    return Answer(
        question="?",
        answer=text,
        confidence=0.5,
        evidence=[Evidence(step=1, tool="zoom", box=BOX, mpp=0.25, finding="f", image="regions/a.jpg")],
        claims=list(claims),
        coverage={"0.5": 0.06},
        model="m",
        mode="agent",
        slide=SlideFacts(id="s"),
        run_dir="run",
    )


def test_an_absence_in_another_language_is_held_against_its_steps() -> None:
    claims = [Claim(text="Assenza di mitosi", steps=[1]), Claim(text="Presenza di mitosi", steps=[1])]
    coarse = judged(claims, {1: step(mpp=0.6)}, {"0.5": 0.06})
    assert "the absence of “mitosi” needs 0.5 µm/px" in str(coarse[0].unsupported)
    assert coarse[1].unsupported is None, "a sighting may be made at twice the µm/px"
    fine = judged(claims, {1: step()}, {"0.5": 0.06})
    assert fine[0].unsupported is None
    assert fine[0].seen == "6 % of the tissue was seen at ≤ 0.5 µm/px"
    assert fine[1].seen is None
    assert all(claim.unchecked is None for claim in coarse + fine)


def test_what_is_not_read_is_marked_and_its_steps_are_checked_all_the_same() -> None:
    told = [Claim(text=POLISH, steps=[1]), Claim(text=POLISH, steps=[7]), Claim(text="Glands.", steps=[1])]
    made = answer("Carcinoma; 6 % was seen.", *told)
    problems = check_answer(made, [step()])
    assert len(problems) == 1
    assert "it cites step 7, which does not exist" in problems[0]
    marked = mark(made, problems, [step()])
    assert [claim.unchecked for claim in marked.claims] == [NOT_READ, NOT_READ, None]
    assert marked.reason is None
    assert [note.split(" (")[0] for note in not_checked(marked)] == ["Claim 1", "Claim 2"]
    assert all(note.endswith(f"was not checked: {NOT_READ}.") for note in not_checked(marked))


def test_an_answer_that_is_not_read_is_marked_itself() -> None:
    marked = mark(answer(POLISH), [], [step()])
    assert marked.reason == f"The text of the answer was not checked: {NOT_READ}."
    assert not_checked(marked) == [marked.reason]
    assert mark(marked, [], [step()]) == marked, "marking twice changes nothing"


def test_an_absence_as_the_answer_needs_coverage_in_every_language() -> None:
    for text in ("Keine Nekrose.", "Pas de nécrose.", "未见坏死。", "壊死を認めない。", "Некроза нет."):
        assert "how much tissue was seen" in str(check_answer(answer(text), [step()])), text


@pytest.mark.parametrize(
    ("question", "language"),
    [
        ("Is there necrosis?", None),
        ("Which stain was used?", None),
        ("HER2 status?", None),
        ("Ist Nekrose vorhanden?", "German"),
        ("¿Hay necrosis?", "Spanish"),
        ("Y a-t-il une nécrose ?", "French"),
        ("C'è necrosi?", "Italian"),
        ("Qual é o diagnóstico?", "Portuguese"),
        ("Есть ли некроз?", "Russian"),
        ("有坏死吗？", "Chinese"),
        ("壊死はありますか？", "Japanese"),
        ("괴사가 있습니까?", "another language"),
        ("Czy jest martwica?", "another language"),
        ("Nekroz var mı?", "another language"),
    ],
)
def test_the_language_of_a_question_is_named(question: str, language: str | None) -> None:
    assert foreign_language(question) == language


def test_a_model_asked_in_another_language_says_that_it_reads_english(run_agent: Any) -> None:
    model = fakes.FakeModel(unknown_words=("ist", "vorhanden"), question_unfamiliarity=4.0)
    *_, made = run_agent("Ist Nekrose vorhanden?", options=fakes.OPTIONS, model=model)
    assert made.abstained
    assert made.reason == "The model 'fake' reads English, and the question is in German."
    assert made.answer.startswith("No answer: the model 'fake' reads English, and the question is in German.")


def test_a_model_that_knows_the_words_is_asked_in_any_language(run_agent: Any) -> None:
    *_, made = run_agent("Ist Nekrose vorhanden?", options=fakes.OPTIONS, model=fakes.FakeModel())
    assert not made.abstained


def test_a_run_record_lists_what_was_not_checked(tmp_path: Path) -> None:
    record = fakes.run_record()
    marked = mark(answer(POLISH), [], [step()])
    write_json(tmp_path / "run.json", record)
    write_finished(tmp_path, record, [], marked)
    written = json.loads((tmp_path / "run.json").read_text())
    assert written["unchecked"] == [f"The text of the answer was not checked: {NOT_READ}."]
    assert NOT_READ in json.loads((tmp_path / "answer.json").read_text())["reason"]
    assert NOT_READ in (tmp_path / "report.html").read_text()
    assert NOT_READ in (tmp_path / "report.md").read_text()
