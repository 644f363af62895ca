package millrace.bench;

import java.math.BigDecimal;
import java.math.RoundingMode;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** The reference workload: bench/workload in Java. Event i is the same in both. */
public final class Workload {
    /** Time of event 0 in milliseconds: the beginning of a minute. */
    public static final long START = 1699999980000L;

    /** How many events the results of all jobs are known for. */
    public static final long N = 1_000_000;

    /** A number that the hand-written loops of bench/workload give the results of all jobs for, too. */
    public static final long SMALL = N / 10;

    /** What a job brings out: the number of its outputs and a sum over them. */
    public record Result(long out, double sum) {}

    /** A job's events, and what it must bring out of so many of them; digits is how many decimals of the sums are known. */
    public record Job(String name, String what, int keys, long rate, boolean duplicates, Map<Long, Result> expect, int digits) {
        /** Says what is wrong with a result, or null. Where nothing is known of n, anything is right. */
        public String problem(long n, Result got) {
            Result want = expect.get(n);
            if (want == null) {
                return null;
            }
            double off = Math.abs(got.sum - want.sum);
            if (got.out == want.out && off <= 0.51 * Math.pow(10, -digits) + 1e-10 * want.sum) {
                return null;
            }
            return String.format("job %s at %d events: got %d outputs and sum %.3f, want %d and %.3f", name, n, got.out, got.sum, want.out, want.sum);
        }
    }

    public static final Job A = new Job("A", "update, filter, update", 10_000, 10_000, false, Map.of(N, new Result(499_340, 36_194_798.072), SMALL, new Result(49_801, 3_610_076.578)), 3);
    public static final Job B10K = new Job("B10k", "tumbling window of 1 min by 10k devices", 10_000, 10_000, false, Map.of(N, new Result(20_000, 4_600_411.304), SMALL, new Result(10_000, 1_897_631.413)), 3);
    public static final Job B1M = new Job("B1m", "tumbling window of 1 min by 1m devices", 1_000_000, 100_000, false,
            Map.of(N, new Result(631_749, 114_724_566.311), 10 * N, new Result(1_979_356, 366_230_435.829), SMALL, new Result(95_147, 17_221_266.092)), 3);
    public static final Job C = new Job("C", "sliding window of 60 s / 1 s by 100 devices", 100, 1_000, false, Map.of(N, new Result(105_900, 79_060_110.043), SMALL, new Result(15_900, 8_860_675.230)), 3);
    public static final Job D = new Job("D", "dedup by (device, seq), 5 % repeats", 10_000, 100_000, true, Map.of(N, new Result(950_000, 47_520_431.912), SMALL, new Result(95_000, 4_751_205.968)), 3);
    public static final Job EN = new Job("En", "CEP: hot three times by next within 10 s", 10_000, 10_000, false, Map.of(N, new Result(1_918, 0), SMALL, new Result(142, 0)), 0);
    public static final Job EF = new Job("Ef", "CEP: hot three times by followedBy within 10 s", 10_000, 10_000, false, Map.of(N, new Result(41_659, 0), SMALL, new Result(1_728, 0)), 0);
    public static final Job F = new Job("F", "decode JSON, update, tumbling window as B10k", 10_000, 10_000, false, Map.of(N, new Result(19_976, 9_377_893.7), SMALL, new Result(9_988, 4_288_747.3)), 1);

    private Workload() {}

    private static final Map<Integer, String[]> DEVICES = new ConcurrentHashMap<>();

    /** The names of all devices, by number; made once per process. */
    public static String[] devices(int keys) {
        return DEVICES.computeIfAbsent(keys, n -> {
            String[] names = new String[n];
            byte[] b = "dev-0000000".getBytes(StandardCharsets.US_ASCII);
            for (int i = 0; i < n; i++) {
                for (int at = b.length - 1, v = i; at > 3; at--, v /= 10) {
                    b[at] = (byte) ('0' + v % 10);
                }
                names[i] = new String(b, StandardCharsets.ISO_8859_1);
            }
            return names;
        });
    }

    /** Makes the events of a job. */
    public static final class Generator {
        private final long keys;
        private final long rate;
        private final boolean duplicates;
        private final String[] devices;

        public Generator(Job j) {
            keys = j.keys;
            rate = j.rate;
            duplicates = j.duplicates;
            devices = devices(j.keys);
        }

        /** Makes e event i. */
        public void fill(long i, Event e) {
            long of = duplicates && i % 20 == 19 ? i - 10 : i;
            long h = hash(of);
            e.device = devices[(int) ((h >>> 32) * keys >>> 32)];
            e.ts = START + i * 1000 / rate;
            e.temperature = 20 + (h & 0xFFFF) * (80.0 / 65536);
            e.humidity = (h >>> 16 & 0xFFFF) * (100.0 / 65536);
            e.seq = of;
        }

        public Event next(long i) {
            Event e = new Event();
            fill(i, e);
            return e;
        }
    }

    /** The finalizer of splitmix64. */
    static long hash(long i) {
        return mix((i + 1) * 0x9E3779B97F4A7C15L);
    }

    static long mix(long z) {
        z = (z ^ z >>> 30) * 0xBF58476D1CE4E5B9L;
        z = (z ^ z >>> 27) * 0x94D049BB133111EBL;
        return z ^ z >>> 31;
    }

    /** Makes the JSON payloads of job F out of a pool; payload i is that of event i % 65,536 with the time and number of event i. */
    public static final class Payloads {
        private static final int POOL = 1 << 16;
        private static final int TS_AT = "{\"deviceId\":\"dev-0000000\",\"ts\":".length();
        private static final int SEQ_AT = TS_AT + "1699999980000,\"temperature\":00.00,\"humidity\":00.00,\"fw\":\"1.4\",\"seq\":".length();
        private static final long FIRST_SEQ = 1_000_000_000L;

        private final long rate;
        private final byte[][] pool = new byte[POOL][];

        public Payloads(Job j) {
            rate = j.rate;
            Generator g = new Generator(j);
            Event e = new Event();
            for (int i = 0; i < POOL; i++) {
                g.fill(i, e);
                pool[i] = ("{\"deviceId\":\"" + e.device + "\",\"ts\":" + e.ts + ",\"temperature\":" + two(Math.min(e.temperature, 99.99))
                        + ",\"humidity\":" + two(10 + e.humidity * 0.8999) + ",\"fw\":\"1.4\",\"seq\":" + (FIRST_SEQ + i) + "}").getBytes(StandardCharsets.US_ASCII);
            }
        }

        /** Two decimals of the exact value, half to even, as C and Go print them; Java's %.2f rounds the shortest decimal instead. */
        private static String two(double v) {
            return new BigDecimal(v).setScale(2, RoundingMode.HALF_EVEN).toPlainString();
        }

        /** Payload i, in a piece of memory of its own. */
        public byte[] make(long i) {
            byte[] b = pool[(int) (i % POOL)].clone();
            digits(b, TS_AT, 13, START + i * 1000 / rate);
            digits(b, SEQ_AT, 10, FIRST_SEQ + i);
            return b;
        }

        private static void digits(byte[] b, int at, int n, long v) {
            for (int i = at + n - 1; i >= at; i--, v /= 10) {
                b[i] = (byte) ('0' + v % 10);
            }
        }
    }
}
