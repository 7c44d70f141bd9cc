// Pictures for a model that sees: made small enough, and told as data, so that nobody fetches anything.
const EDGE = 1536;
const SMALL_BYTES = 1 << 20;
export const MOST = 4;

// Data URLs of the pictures among these files; what is none is left out.
export async function read(files) {
  const found = await Promise.all([...files].filter((file) => file.type.startsWith('image/')).map(one));
  return found.filter(Boolean);
}

async function one(file) {
  let picture;
  try {
    picture = await createImageBitmap(file);
  } catch {
    return null; // nothing that this browser can read
  }
  const shrink = Math.min(1, EDGE / Math.max(picture.width, picture.height));
  if (shrink === 1 && file.size <= SMALL_BYTES && /png|jpeg|webp/.test(file.type)) return url(file);
  const canvas = Object.assign(document.createElement('canvas'), {
    width: Math.round(picture.width * shrink),
    height: Math.round(picture.height * shrink),
  });
  canvas.getContext('2d').drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL('image/jpeg', 0.9);
}

function url(file) {
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(file);
  });
}
