package millrace.bench;

import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Objects;

/** What one run of a job used and brought out. The source tells it when the first event is made, the sink when the last result is in. */
public final class Probe {
    private static volatile Probe current;

    private Usage from;
    private Usage to;
    private long out;
    private double sum;
    private long checksum;

    /** Makes the probe of the next run; there is one run at a time in a process. */
    static Probe next() {
        return current = new Probe();
    }

    static Probe current() {
        return Objects.requireNonNull(current);
    }

    synchronized void begin() {
        if (from == null) {
            from = Usage.now();
        }
    }

    /** A sink's writer has had all; the last one counts. */
    synchronized void end(long out, double sum, long checksum) {
        this.out += out;
        this.sum += sum;
        this.checksum += checksum;
        to = Usage.now();
    }

    synchronized long out() {
        return out;
    }

    synchronized double sum() {
        return sum;
    }

    synchronized long checksum() {
        return checksum;
    }

    /** What was used from the first event to the last result. */
    synchronized Usage used() {
        return new Usage(to.wall - from.wall, to.cpu - from.cpu, to.gc - from.gc, to.jit - from.jit, to.bytes - from.bytes);
    }

    /** Nanoseconds of time, of processor time of the process, its collector and its compilers, and bytes allocated by Java threads. */
    record Usage(long wall, long cpu, long gc, long jit, long bytes) {
        static Usage now() {
            var os = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
            return new Usage(System.nanoTime(), os.getProcessCpuTime(),
                    threads("GC Thread", "G1 ", "ZWorker", "ZDriver", "Shenandoah"), threads("C1 Compiler", "C2 Compiler"), allocated());
        }

        private static long allocated() {
            var threads = (com.sun.management.ThreadMXBean) ManagementFactory.getThreadMXBean();
            long sum = 0;
            for (long b : threads.getThreadAllocatedBytes(threads.getAllThreadIds())) {
                sum += Math.max(b, 0);
            }
            return sum;
        }

        /** The processor time of the JVM's own threads with such names; they live as long as the process. */
        private static long threads(String... names) {
            long sum = 0;
            try (DirectoryStream<Path> tasks = Files.newDirectoryStream(Path.of("/proc/self/task"))) {
                for (Path t : tasks) {
                    String name = read(t.resolve("comm"));
                    if (Arrays.stream(names).anyMatch(name::startsWith)) {
                        String stat = read(t.resolve("schedstat"));
                        sum += stat.isEmpty() ? 0 : Long.parseLong(stat.substring(0, stat.indexOf(' ')));
                    }
                }
            } catch (IOException e) {
                return 0; // no Linux: not known
            }
            return sum;
        }

        private static String read(Path p) throws IOException {
            try {
                return Files.readString(p);
            } catch (NoSuchFileException e) {
                return ""; // the thread has ended
            }
        }
    }
}
