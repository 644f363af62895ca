package millrace.bench.nexmark;

import java.nio.charset.StandardCharsets;

/** splitmix64. */
final class Random {
    private long s;

    Random(long seed) {
        s = seed;
    }

    void seed(long seed) {
        s = seed;
    }

    /** One step from s on. */
    static long mix(long s) {
        long z = s + 0x9E3779B97F4A7C15L;
        z = (z ^ z >>> 30) * 0xBF58476D1CE4E5B9L;
        z = (z ^ z >>> 27) * 0x94D049BB133111EBL;
        return z ^ z >>> 31;
    }

    long next() {
        long z = mix(s);
        s += 0x9E3779B97F4A7C15L;
        return z;
    }

    long upTo(long n) {
        return (next() >>> 1) % n;
    }

    double unit() {
        return (next() >>> 11) / (double) (1L << 53);
    }

    String letters(long most) {
        byte[] b = new byte[3 + (int) upTo(most)];
        for (int i = 0; i < b.length; i++) {
            b[i] = (byte) ('a' + upTo(26));
        }
        return new String(b, StandardCharsets.ISO_8859_1);
    }

    /** Between 100 and 100 millions, as many of each magnitude. */
    long price() {
        return Math.round(Math.pow(10, unit() * 6) * 100);
    }
}
