"""The words of prompts: which phrases ask for which mood, genre, instrument, voice, dynamics, recording, tempo and mode.

Each table maps what `synth` can do to the phrases that ask for it, the common ones first. They were collected from the
captions of MusicCaps (Google, CC BY-SA 4.0).

**Conventions**: moods as (valence, energy) in [0, 1]; tempo in beats per minute.
"""

SLOWEST, FASTEST = 40.0, 260.0

MOODS: dict[str, tuple[float, float]] = {
    "happy": (0.95, 0.65),
    "playful": (0.85, 0.5),
    "energetic": (0.7, 0.95),
    "groovy": (0.7, 0.7),
    "passionate": (0.45, 0.65),
    "epic": (0.45, 0.9),
    "aggressive": (0.15, 1.0),
    "dark": (0.05, 0.5),
    "sad": (0.1, 0.2),
    "romantic": (0.55, 0.3),
    "dreamy": (0.5, 0.1),
    "calm": (0.7, 0.1),
}
MOOD_WORDS = {
    "happy": "happy, happiness, joyful, joyous, cheerful, cheery, upbeat, uplifting, positive, merry, bright mood, sunny,"
    " feel good, optimistic, jolly, festive, celebratory, triumphant, pleasant",
    "playful": "playful, fun, funny, quirky, bouncy, whimsical, comical, silly, childlike, cute, buoyant, lighthearted,"
    " light hearted, animated, vivacious, youthful",
    "energetic": "energetic, exciting, lively, spirited, vibrant, enthusiastic, vigorous, energy, high energy, driving, party,"
    " danceable, exhilarating, dynamic, hyper, frenetic, dance rhythm, dance groove",
    "groovy": "groovy, groove, funky, cool, slick, catchy, infectious, addictive, swinging, laid back groove",
    "passionate": "passionate, emotional, soulful, heartfelt, intense, dramatic, expressive, poignant, moving, fervent,"
    " emphatic",
    "epic": "epic, heroic, majestic, grand, powerful, inspiring, anthemic, action, adventurous, thrilling, larger than life",
    "aggressive": "aggressive, angry, furious, violent, brutal, manic, chaotic, raging, fierce, headbanging",
    "dark": "dark, scary, eerie, sinister, suspenseful, suspense, haunting, spooky, creepy, ominous, mysterious, tense,"
    " horror, menacing, gloomy, unsettling, evil, foreboding",
    "sad": "sad, melancholic, melancholy, sorrowful, mournful, somber, sombre, heartbreaking, depressing, lonely,"
    " gloom, grief, longing, wistful, pensive",
    "romantic": "romantic, love song, sentimental, nostalgic, tender, intimate, sensual, warm, sweet, mellow, lovely",
    "dreamy": "dreamy, ethereal, hypnotic, trippy, psychedelic, atmospheric, meditative, mystical, floating, spacey,"
    " otherworldly, surreal, hazy",
    "calm": "calm, calming, relaxing, relaxed, peaceful, soothing, serene, chill, easygoing, tranquil, meditation,"
    " lullaby, laid back, mellow mood, restful, sleepy, comforting",
}
BASSES = ("bass guitar", "upright bass", "synth bass")
GENRE_WORDS = {
    "rock": "rock, soft rock, hard rock, alternative rock, indie rock, rock and roll, rock n roll, grunge, indie, rock music,"
    " classic rock, garage rock, pop rock",
    "metal": "metal, heavy metal, death metal, thrash, black metal, metalcore, hardcore, punk metal",
    "punk": "punk, punk rock, ska punk, pop punk",
    "pop": "pop, pop song, pop music, synth pop, electro pop, r&b, r b, rnb, disco, k pop, j pop, christmas song",
    "jazz": "jazz, jazzy, swing, bebop, big band, smooth jazz, ragtime, lounge",
    "classical": "classical, classical music, baroque, chamber music, western classical music, opera, sonata, piano sonata,"
    " concerto, string quartet, renaissance, nocturne, etude",
    "orchestral": "orchestral, cinematic, movie soundtrack, film score, film music, movie music, soundtrack, symphonic,"
    " symphony, philharmonic orchestra, trailer, orchestra",
    "electronic": "electronic, electronic music, edm, techno, house, house music, trance, dubstep, drum and bass, electro,"
    " electronic dance music, dance music, club music, dj, eurodance, deep house, hardstyle, dance pop, synthwave",
    "ambient": "ambient, ambient music, drone, new age, meditation music, soundscape, spa music",
    "hip hop": "hip hop, rap, trap, boom bap, rapping, rapper, drill",
    "lo-fi": "lo fi, lofi, chillhop, lo fi hip hop, lofi hip hop, chillout, downtempo",
    "folk": "folk, folk music, folk song, celtic, irish, traditional, traditional music, singer songwriter, acoustic ballad,"
    " world music, sea shanty",
    "country": "country, country music, bluegrass, americana, western, honky tonk, cowboy",
    "reggae": "reggae, ska, dub, dancehall, reggaeton, rocksteady",
    "blues": "blues, bluesy, blues rock, delta blues, twelve bar blues, 12 bar blues",
    "funk": "funk, funk music, soul, soul music, motown",
    "latin": "latin, salsa, bossa nova, samba, tango, flamenco, mariachi, cumbia, rumba, bachata, cuban, spanish, merengue,"
    " mambo, cha cha",
    "gospel": "gospel, church music, worship, christian, hymn, devotional, religious, spiritual",
}
INSTRUMENT_WORDS = {
    "acoustic guitar": "acoustic guitar, acoustic guitars, nylon guitar, nylon string guitar, classical guitar, spanish"
    " guitar, fingerpicked guitar, fingerpicking, fingerstyle, fingerstyle guitar, acoustic rhythm guitar, rhythmic acoustic guitar,"
    " ukulele, mandolin, strummed guitar, strumming, steel guitar, lute, bouzouki, acoustic rhythm guitars",
    "electric guitar": "electric guitar, electric guitars, e guitar, e guitars, clean guitar, clean electric guitar, guitar"
    " solo, guitar lead, lead guitar, electric guitar melody, guitar lick, guitar licks, wah guitar, funk guitar, jazz guitar",
    "distorted guitar": "distorted guitar, distorted guitars, distorted electric guitar, distorted electric guitars,"
    " overdriven guitar, overdriven guitars, heavy guitars, distortion guitar, distortion guitars, fuzz guitar, power chords, guitar riff,"
    " guitar riffs, heavy guitar, distorted e guitar, crunchy guitar, crunchy guitars, overdriven electric guitar, chugging guitars, guitar riffing",
    "harp": "harp, harps, koto, zither, lyre, dulcimer, guzheng",
    "banjo": "banjo, banjos",
    "sitar": "sitar, tanpura, oud, shamisen, sarod",
    "piano": "piano, acoustic piano, grand piano, pianos, piano melody, mellow piano melody, piano chords, upright piano, keys",
    "electric piano": "electric piano, rhodes, wurlitzer, keyboard, keyboards, keyboard harmony, keyboard accompaniment,"
    " e piano, digital piano, mellow keyboard, clavinet, harpsichord",
    "bells": "bells, bell, glockenspiel, music box, chimes, celesta, tubular bells, vibraphone, church bells, wind chimes,"
    " toy piano, singing bowl, singing bowls",
    "marimba": "marimba, xylophone, kalimba, steel drum, steel drums, steelpan, balafon, wooden mallets, mallets",
    "organ": "organ, hammond, church organ, pipe organ, hammond organ, b3 organ",
    "accordion": "accordion, harmonica, bandoneon, concertina, melodica",
    "flute": "flute, flutes, recorder, whistle, whistling, pan flute, tin whistle, piccolo, bansuri, wind instrument, woodwinds,"
    " woodwind, shakuhachi, ocarina",
    "clarinet": "clarinet, oboe, bassoon, clarinets, duduk, english horn",
    "saxophone": "saxophone, sax, saxophones, alto sax, tenor sax",
    "trumpet": "trumpet, trumpets, brass, brass section, horn, horns, trombone, trombones, french horn, tuba, brass band,"
    " flugelhorn, cornet, horn section, bugle, brass instruments",
    "violin": "violin, violins, fiddle, viola, erhu, solo violin, fiddles",
    "cello": "cello, cellos, celli, viola da gamba, solo cello",
    "strings": "strings, string section, string ensemble, sustained strings, sustained strings melody, orchestral strings,"
    " symphonic strings, orchestra strings, string instruments, staccato strings, lush strings, string orchestra, string quartet strings",
    "pad": "pad, pads, synth pad, synth pads, ambient pads, warm pads, pad chords, synth pad chords, atmospheric synth,"
    " synth strings, choir pad, string pad",
    "synth lead": "synth, synths, synth lead, synthesizer, synthesizers, synthesiser, synth melody, arpeggiated synth, synth"
    " arpeggio, lead synth, synth sounds, synthesiser arrangement, synthesiser arrangements, electronic synth, synth lead melody, saw lead, theremin, chiptune, 8 bit",
    "bass guitar": "bass guitar, e bass, electric bass, bass, bass line, bassline, groovy bass, groovy bass line, slap bass,"
    " bass guitars, smooth bass, strong bass, groovy bassline, bass guitar line",
    "upright bass": "upright bass, double bass, contrabass, acoustic bass, stand up bass, walking bass",
    "synth bass": "synth bass, 808 bass, sub bass, deep bass, 808, 808s, synth bass line, wobble bass, reese bass, bass drop",
    "acoustic kit": "drums, drum, drumming, acoustic drums, drum kit, drummer, percussion, snare, kick, hi hat, hi hats,"
    " hihats, cymbals, cymbal, steady drumming, steady drumming rhythm, punchy kick, punchy snare, shimmering hi hats, toms, drum fill,"
    " drum roll, shimmering cymbals, brushed drums, kick and snare, timpani, taiko, marching drums, rock drums, backbeat, drumset",
    "electronic kit": "electronic drums, drum machine, digital drums, programmed percussion, programmed drums, electronic"
    " drum beat, electronic beat, electronic percussion, 808 drums, four on the floor, techno beat, breakbeat, trap drums, programmed percussion elements,"
    " house beat, trap beat, hip hop beat, drum loop, drum samples, synthetic drums, 909",
    "hand percussion": "hand percussion, tambourine, tambourines, shaker, shakers, conga, congas, bongo, bongos, tabla, djembe,"
    " cajon, maracas, claps, clapping, handclaps, hand claps, wooden percussion, wooden percussions, shimmering shakers, cowbell, castanets, tambourine beats,"
    " finger snaps, finger snipping, african drums, hand drums, hand drum, darbuka, dholak",
}
VOICE_WORDS = {
    "male": "male voice, male vocal, male vocals, male vocalist, male singer, male voices, male voice singing, flat male vocal,"
    " man singing, man sings, baritone, tenor voice, rapping, rapper, male rapper, male lead vocals, male singing, male vocalists, male singers,"
    " passionate male vocal, male voices singing, deep voice, his voice, male choir, low voice, man's voice, male lead",
    "female": "female voice, female vocal, female vocals, female vocalist, female singer, female voices, female voice singing,"
    " woman singing, woman sings, soprano, female lead vocals, female singing, female vocalists, female singers, passionate female vocal, girl singing,"
    " her voice, children singing, kids singing, child singing, female choir, breathy female vocal, woman's voice, soft female vocal, female lead",
    "any": "vocals, vocal, voice, voices, singing, singer, singers, sings, sung, choir, vocalist, vocalists, choral, chant, chanting,"
    " vocal harmony, a cappella, acapella, backup singers, vocalisation, vocalization, lyrics, choir singing, singing voice",
    "none": "instrumental, instrumental music, instrumental piece, instrumental song, purely instrumental",
}
DYNAMICS_WORDS = {
    "quiet": "soft, softly, quiet, gentle, gently, subtle, delicate, hushed, pianissimo, faint, understated, low volume",
    "loud": "loud, loudly, booming, heavy, fortissimo, punchy, blaring, thunderous, explosive, hard hitting, full sound",
}
RECORDING_WORDS = {
    "low": "low quality, low quality recording, low quality audio, poor audio quality, noisy, amateur recording, home"
    " recording, bad audio quality, mono, muffled, inferior audio quality, static, hiss, hissing, crackle, crackling, vinyl crackle, tinny,"
    " low fidelity, phone recording, poor quality, old recording, vintage recording, poor recording quality, average audio quality, bad recording,"
    " background noise, low fi, thin sound, home video, recorded on a phone, tape hiss, vinyl",
    "high": "high quality, high quality recording, studio quality, studio recording, well recorded, crisp, hi fi, high fidelity,"
    " professional recording, polished, pristine, clean recording, well produced, good audio quality, crystal clear",
}
TEMPO_WORDS: dict[tuple[float, float], str] = {
    (45, 62): "very slow, very slow tempo, extremely slow, largo, grave, very slow paced",
    (55, 82): "slow, slow tempo, slow paced, slowly, slow song, adagio, lento, ballad, slow beat, unhurried",
    (
        86,
        116,
    ): "medium tempo, moderate tempo, mid tempo, midtempo, medium, moderate, moderately paced, moderato, andante,"
    " walking pace, medium paced",
    (
        112,
        136,
    ): "medium fast tempo, medium to uptempo, medium fast, moderately fast, medium uptempo, medium to fast tempo",
    (126, 172): "fast, fast tempo, uptempo, up tempo, fast paced, quick, rapid, allegro, vivace, quick tempo, quickly,"
    " fast beat, brisk, speedy",
    (165, 220): "very fast, very fast tempo, extremely fast, presto, breakneck, frantic, super fast, blistering",
}
MODE_WORDS = {
    "major": "major key, major chord, major chords, major scale, major mode, major progression",
    "minor": "minor key, minor chord, minor chords, minor scale, minor mode, minor progression, minor tonality",
}
ALONE_WORDS = (
    "no other instruments, single instrument, solo piano, solo guitar, solo instrument, unaccompanied, a cappella,"
    " acapella, alone, only instrument, solo violin, solo cello, solo flute, solo acoustic guitar"
)
