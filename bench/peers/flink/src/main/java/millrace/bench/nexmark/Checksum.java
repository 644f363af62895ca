package millrace.bench.nexmark;

/** A chain of mixes over numbers, and over texts as their 64 bit FNV-1a: the same as in bench/nexmark. */
final class Checksum {
    private long c;

    Checksum numbers(long... vs) {
        for (long v : vs) {
            number(v);
        }
        return this;
    }

    Checksum number(long v) {
        c = Random.mix(c ^ v);
        return this;
    }

    /** All texts are ASCII. */
    Checksum texts(String... ts) {
        for (String t : ts) {
            long h = 0xcbf29ce484222325L;
            for (int i = 0; i < t.length(); i++) {
                h = (h ^ t.charAt(i)) * 0x100000001b3L;
            }
            number(h);
        }
        return this;
    }

    long value() {
        return c;
    }
}
