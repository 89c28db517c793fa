// Every word of the interface, in English and in French, and which of the two is spoken.

import { visits } from "./memory.js";

const KEPT = "bloomz-language";
const some = (number, one, more) => `${count(number)} ${number === 1 ? one : more}`;
const un = (number, one, more) => `${count(number)} ${number < 2 ? one : more}`;

const WORDS = {
  en: {
    title: "Ask your documents",
    lead: "In English or in French: the answer may stand in either language.",
    skip: "Skip to the passages",
    language: "Language of this page",
    question: "Your question",
    placeholder: "What would you like to know?",
    ask: "Ask",
    asking: "Searching…",
    examples: "For example",
    options: "Options",
    passageLanguage: "Passages in",
    anyLanguage: "Any language",
    en: "English",
    fr: "French",
    topK: "Passages to show",
    threshold: "Relevance",
    keepUsual: "As this service is set",
    keepAll: "Keep everything",
    keepAuto: (score) => `At least ${score}, as the ranker recommends`,
    keepAbove: "At least…",
    least: "Least relevance",
    onlyIn: "Only in",
    everywhere: "Search everywhere",
    remove: (name) => `Do not search only in ${name}`,
    passages: "Passages",
    found: (number, seconds) => `${some(number, "passage", "passages")} in ${seconds} s`,
    best: (text) => `The best says: ${text}`,
    above: (score) => `relevance at least ${score}`,
    relevance: "Relevance",
    relevanceDetail: (score, cosine) => (cosine ? `Relevance ${score}, similarity ${cosine}` : `Relevance ${score}`),
    page: (number) => `page ${number}`,
    showWhole: "Show whole passage",
    showLess: "Show less",
    onlyThisFile: (name) => `Search only in ${name}`,
    searchHere: "Search only in this file",
    alsoIn: (names) => `Also in ${names}`,
    answerBegins: "answer: ",
    answerEnds: " (end of the answer)",
    untitled: "Untitled passage",
    answer: "Answer",
    writing: "Writing…",
    written: "The answer is written.",
    stop: "Stop",
    stopped: "Stopped.",
    writtenBy: (name) => `Written by ${name} from the passages below. Check it against its sources.`,
    source: (number, name) => `Source ${number}: ${name}`,
    nothing: "Nothing in these documents answers that",
    nothingAbove: (score) => `No passage reaches ${score}`,
    nothingAboveDetail: "The documents may not answer this question. The nearest passages may still help.",
    showNearest: "Show the nearest passages",
    nothingFiltered: "No passage is left by the filters",
    nothingFilteredDetail: "Only part of the documents was searched.",
    noDocuments: "No documents yet",
    noDocumentsDetail: "Add files, and ask them questions a moment later.",
    noDocumentsRead: "Nothing has been indexed, and this service takes no files.",
    starting: "The models are being loaded. This takes a few seconds.",
    failed: "That did not work",
    again: "Try again",
    unreachable: "The service cannot be reached. Is it still running?",
    busy: (seconds) => `The service is busy. Please try again in ${some(seconds, "second", "seconds")}.`,
    needsToken: "This service needs a token.",
    token: "Token",
    tokenTitle: "Access token",
    tokenLead: "This service is private. Its administrator can give you the token; it is kept until you close this tab.",
    tokenRefused: "That token was refused.",
    unlock: "Unlock",
    cancel: "Cancel",
    documents: "Documents",
    held: (files, passages) => `${some(files, "file", "files")}, ${some(passages, "passage", "passages")}`,
    addFiles: "Add files",
    dropHint: "or drop them anywhere on this page",
    dropHere: "Drop the files to index them",
    folders: "Folders cannot be dropped here: please choose the files in them.",
    sending: "Sending…",
    queued: "Waiting",
    running: "Reading…",
    done: (number) => some(number, "passage", "passages"),
    failedFile: "Not indexed",
    indexed: (number) => `${some(number, "file", "files")} indexed`,
    notIndexed: (number) => `${some(number, "file was", "files were")} not indexed`,
    dismiss: "Dismiss",
    noFile: "Texts without a file",
    searchOnlyHelp: "Tick files to search only in them.",
    filesCount: (number) => some(number, "passage", "passages"),
    delete: (name) => `Delete ${name}`,
    deleteTitle: "Delete this file?",
    deleteLead: (name, number) => `“${name}” (${some(number, "passage", "passages")}) will no longer be found.`,
    deleteNow: "Delete",
    deleted: (name) => `${name} was deleted.`,
    more: (number) => `Show more (${count(number)} left)`,
    retriever: "Retriever",
    ranker: "Ranker",
    words: "words and meaning",
    meaning: "meaning",
    searchBy: "Searches by",
  },
  fr: {
    title: "Interrogez vos documents",
    lead: "En français ou en anglais : la réponse peut se trouver dans l’une ou l’autre langue.",
    skip: "Aller aux passages",
    language: "Langue de cette page",
    question: "Votre question",
    placeholder: "Que voulez-vous savoir ?",
    ask: "Chercher",
    asking: "Recherche…",
    examples: "Par exemple",
    options: "Options",
    passageLanguage: "Passages en",
    anyLanguage: "Toutes les langues",
    en: "Anglais",
    fr: "Français",
    topK: "Passages affichés",
    threshold: "Pertinence",
    keepUsual: "Comme le service est réglé",
    keepAll: "Tout garder",
    keepAuto: (score) => `Au moins ${score}, comme le conseille le modèle`,
    keepAbove: "Au moins…",
    least: "Pertinence minimale",
    onlyIn: "Seulement dans",
    everywhere: "Chercher partout",
    remove: (name) => `Ne plus chercher seulement dans ${name}`,
    passages: "Passages",
    found: (number, seconds) => `${un(number, "passage", "passages")} en ${seconds} s`,
    best: (text) => `Le meilleur dit : ${text}`,
    above: (score) => `pertinence d’au moins ${score}`,
    relevance: "Pertinence",
    relevanceDetail: (score, cosine) => (cosine ? `Pertinence ${score}, similarité ${cosine}` : `Pertinence ${score}`),
    page: (number) => `page ${number}`,
    showWhole: "Afficher tout le passage",
    showLess: "Réduire",
    onlyThisFile: (name) => `Chercher seulement dans ${name}`,
    searchHere: "Chercher seulement dans ce fichier",
    alsoIn: (names) => `Aussi dans ${names}`,
    answerBegins: "réponse : ",
    answerEnds: " (fin de la réponse)",
    untitled: "Passage sans titre",
    answer: "Réponse",
    writing: "Rédaction…",
    written: "La réponse est rédigée.",
    stop: "Arrêter",
    stopped: "Arrêtée.",
    writtenBy: (name) => `Rédigée par ${name} d’après les passages ci-dessous. Vérifiez-la dans ses sources.`,
    source: (number, name) => `Source ${number} : ${name}`,
    nothing: "Rien dans ces documents ne répond à cette question",
    nothingAbove: (score) => `Aucun passage n’atteint ${score}`,
    nothingAboveDetail:
      "Les documents ne répondent peut-être pas à cette question. Les passages les plus proches peuvent quand même aider.",
    showNearest: "Afficher les plus proches",
    nothingFiltered: "Les filtres ne laissent aucun passage",
    nothingFilteredDetail: "Seule une partie des documents a été consultée.",
    noDocuments: "Aucun document pour l’instant",
    noDocumentsDetail: "Ajoutez des fichiers et interrogez-les l’instant d’après.",
    noDocumentsRead: "Rien n’a été indexé, et ce service n’accepte pas de fichiers.",
    starting: "Les modèles se chargent : encore quelques secondes.",
    failed: "Cela n’a pas fonctionné",
    again: "Réessayer",
    unreachable: "Le service ne répond pas. Est-il toujours en marche ?",
    busy: (seconds) => `Le service est occupé. Réessayez dans ${un(seconds, "seconde", "secondes")}.`,
    needsToken: "Ce service demande un jeton d’accès.",
    token: "Jeton",
    tokenTitle: "Jeton d’accès",
    tokenLead: "Ce service est privé. Son administrateur peut vous donner le jeton, gardé jusqu’à la fermeture de cet onglet.",
    tokenRefused: "Ce jeton a été refusé.",
    unlock: "Ouvrir",
    cancel: "Annuler",
    documents: "Documents",
    held: (files, passages) => `${un(files, "fichier", "fichiers")}, ${un(passages, "passage", "passages")}`,
    addFiles: "Ajouter des fichiers",
    dropHint: "ou déposez-les n’importe où sur cette page",
    dropHere: "Déposez les fichiers pour les indexer",
    folders: "Un dossier ne peut pas être déposé ici : choisissez plutôt ses fichiers.",
    sending: "Envoi…",
    queued: "En attente",
    running: "Lecture…",
    done: (number) => un(number, "passage", "passages"),
    failedFile: "Non indexé",
    indexed: (number) => `${un(number, "fichier indexé", "fichiers indexés")}`,
    notIndexed: (number) => `${un(number, "fichier n’a pas pu être indexé", "fichiers n’ont pas pu être indexés")}`,
    dismiss: "Fermer",
    noFile: "Textes sans fichier",
    searchOnlyHelp: "Cochez des fichiers pour ne chercher que dans ceux-là.",
    filesCount: (number) => un(number, "passage", "passages"),
    delete: (name) => `Supprimer ${name}`,
    deleteTitle: "Supprimer ce fichier ?",
    deleteLead: (name, number) => `« ${name} » (${un(number, "passage", "passages")}) ne sera plus trouvé.`,
    deleteNow: "Supprimer",
    deleted: (name) => `${name} a été supprimé.`,
    more: (number) => `Afficher la suite (encore ${count(number)})`,
    retriever: "Recherche",
    ranker: "Classement",
    words: "les mots et le sens",
    meaning: "le sens",
    searchBy: "Cherche par",
  },
};

let spoken = preferred();

function preferred() {
  const wished = [visits.get(KEPT), ...navigator.languages].map((tag) => (tag ?? "").slice(0, 2).toLowerCase());
  return wished.find((tag) => tag in WORDS) ?? "en";
}

/** Return the language that the page speaks: "en" or "fr". */
export const language = () => spoken;

/** Speak another language, now and at the next visit. */
export function speak(tag) {
  spoken = tag;
  visits.set(KEPT, tag);
}

/** Return a text of the interface by its name in WORDS; `values` fill it. */
export function say(name, ...values) {
  const text = WORDS[spoken][name];
  return typeof text === "function" ? text(...values) : text;
}

/** Return a number as the spoken language writes it. */
export const count = (number, options = {}) => new Intl.NumberFormat(spoken, options).format(number);

/** Return a probability as a percentage: 0.617 is "62%" in English, "62 %" in French. */
export const percent = (share) => count(share, { style: "percent", maximumFractionDigits: 0 });

/** Write the texts of the elements that name theirs: `data-say` their content, `data-say-ATTRIBUTE` an attribute. */
export function translate(root = document) {
  document.documentElement.lang = spoken;
  for (const node of root.querySelectorAll("[data-say]")) node.textContent = say(node.dataset.say);
  for (const node of root.querySelectorAll("[data-say-label]")) node.setAttribute("aria-label", say(node.dataset.sayLabel));
  for (const node of root.querySelectorAll("[data-say-hint]")) node.setAttribute("placeholder", say(node.dataset.sayHint));
}
